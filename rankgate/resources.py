"""The files that ship with the code: Envoy's template and the default policy.

An installed wheel holds them below `rankgate/data`; a source tree holds them at its top.
"""

from __future__ import annotations

from pathlib import Path

__all__ = ["envoy_template", "policies"]

_PACKAGE = Path(__file__).parent


def envoy_template() -> str:
    """Return the text of envoy.yaml.j2. Raises FileNotFoundError for a broken installation."""
    return _first(_PACKAGE / "data" / "envoy.yaml.j2", _PACKAGE.parent / "envoy" / "envoy.yaml.j2").read_text("utf-8")


def policies() -> Path:
    """Return the folder of the shipped policy. Raises FileNotFoundError for a broken installation."""
    return _first(_PACKAGE / "data" / "policies", _PACKAGE.parent / "policies")


def _first(*places: Path) -> Path:
    for place in places:
        if place.exists():
            return place
    raise FileNotFoundError(f"this installation of rankgate lacks {places[0].name}; install it again")
