"""docker-compose.yml, and what is laid over it, as containers to start."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from deploy.containers import Container, World
from deploy.dockerfile import ROOT, read

__all__ = ["CONSOLE", "METRICS", "Service", "document", "services"]

METRICS, CONSOLE = "deploy/compose/metrics.yaml", "deploy/compose/console.yaml"
# Lists that Compose replaces; others it adds up.
REPLACED = {"command", "entrypoint", "test"}
_RESET = object()


class _Loader(yaml.SafeLoader):
    """Knows Compose's own tag, which takes away what the file below says."""


_Loader.add_constructor("!reset", lambda loader, node: _RESET)


@dataclass(frozen=True, slots=True)
class Service:
    """One service: its container, its health check, and the services that must be healthy before."""

    container: Container
    check: tuple[str, ...]
    after: frozenset[str]


def document(*over: str) -> dict[str, Any]:
    """Return the file with its variables at their defaults, and the files `over` laid over it as Compose does."""
    found: dict[str, Any] = {}
    for name in ("docker-compose.yml", *over):
        text = re.sub(r"\$\{\w+:-([^}]*)\}", r"\1", (ROOT / name).read_text()).replace("$$", "$")
        found = _laid(found, yaml.load(text, _Loader))
    return found


def _laid(below: Any, above: Any) -> Any:
    if isinstance(below, dict) and isinstance(above, dict):
        laid = below | {key: value if key in REPLACED else _laid(below.get(key), value) for key, value in above.items()}
        return {key: value for key, value in laid.items() if value is not _RESET}
    if isinstance(below, list) and isinstance(above, list):
        return below + above
    return above


def services(world: World, secrets: Path, *over: str) -> list[Service]:
    """Return every service in an order in which they can start; `secrets` is the folder that prepare.sh fills."""
    found = document(*over)
    waiting = {name: _service(name, service, found, world, secrets) for name, service in found["services"].items()}
    ordered: list[Service] = []
    while waiting:
        ready = [name for name, service in waiting.items() if not service.after & set(waiting)]
        assert ready, f"these wait for each other: {sorted(waiting)}"
        ordered += [waiting.pop(name) for name in ready]
    return ordered


def _service(name: str, service: dict[str, Any], found: dict[str, Any], world: World, secrets: Path) -> Service:
    user, group = map(int, service["user"].split(":"))
    mounts = {
        f"/run/secrets/{secret}": world.copy(secrets / secret, f"secrets/{secret}")
        for secret in service.get("secrets", [])
    }
    # What is laid over takes the place of what was mounted there.
    volumes = {volume.split(":")[1]: volume.split(":")[0] for volume in service.get("volumes", [])}
    for target, source in volumes.items():
        if source.startswith("."):
            mounts[target] = world.copy(ROOT / source, f"files-{name}{target}")
        else:
            mounts[target] = _volume(source, found["volumes"][source], world)
    for target, _, options in (entry.partition(":") for entry in service.get("tmpfs", [])):
        mounts[target] = world.place(f"tmpfs-{name}{target.replace('/', '-')}", **_owner(options))
    for mapping in service.get("ports", []):
        world.port(int(mapping.rpartition(":")[2]))
    own = "build" in service
    image = read()
    entrypoint = list(image.entrypoint) if own else service["entrypoint"]
    container = Container(
        name,
        (*entrypoint, *service["command"]),
        {**(image.environment if own else {}), **_environment(service, secrets)},
        mounts,
        user,
        group,
    )
    check = service["healthcheck"]["test"]
    assert check[0] == "CMD"
    return Service(container, tuple(check[1:]), frozenset(service.get("depends_on", {})))


def _environment(service: dict[str, Any], secrets: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name in service.get("env_file", []):
        lines = (secrets / Path(name).name).read_text().splitlines()
        found |= dict(line.split("=", 1) for line in lines)
    return found | service.get("environment", {})


def _volume(name: str, volume: dict[str, Any], world: World) -> Path:
    if options := volume.get("driver_opts"):
        assert options["type"] == options["device"] == "tmpfs"
        return world.place(f"volume-{name}", **_owner(options["o"]))
    # Docker gives an empty volume the owner of the folder in the image that it is mounted over.
    user, group = {"audit": (64001, 64000), "trail": (999, 999), "metrics": (65534, 65534), "journal": (64006, 64000)}[
        name
    ]
    return world.place(f"volume-{name}", mode=0o750, user=user, group=group)


def _owner(options: str) -> dict[str, int]:
    found = dict(option.split("=") for option in options.split(",") if "=" in option)
    return {
        "mode": int(found.get("mode", "1777"), 8), "user": int(found.get("uid", 0)), "group": int(found.get("gid", 0)),
    }  # fmt: skip
