"""The Dockerfile, read roughly: what its last stage runs, and as whom."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Image", "context", "read"]

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Image:
    """What the last stage says. `builds` are the RUN lines of the stages before it."""

    entrypoint: tuple[str, ...]
    user: int
    group: int
    environment: dict[str, str]
    bases: tuple[str, ...]
    builds: tuple[str, ...]


def read(path: Path = ROOT / "Dockerfile") -> Image:
    """Read a Dockerfile whose instructions are one line each, or continued by a backslash."""
    lines = [line for line in path.read_text().splitlines() if not line.startswith("#")]
    instructions = re.findall(r"^([A-Z]+) +(.*)$", "\n".join(lines).replace("\\\n", " "), re.MULTILINE)
    arguments = dict(value.split("=", 1) for word, value in instructions if word == "ARG")
    last = max(number for number, (word, _) in enumerate(instructions) if word == "FROM")
    found = dict(instructions[last:])
    user, group = map(int, found["USER"].split(":"))
    return Image(
        entrypoint=tuple(json.loads(found["ENTRYPOINT"])),
        user=user,
        group=group,
        environment=dict(pair.split("=", 1) for pair in found["ENV"].split()),
        bases=tuple(_filled(value.split()[0], arguments) for word, value in instructions if word == "FROM"),
        builds=tuple(value for word, value in instructions[:last] if word == "RUN"),
    )


def context(root: Path = ROOT) -> list[Path]:
    """Return what .dockerignore, here a list of exceptions, lets into the build, relative to `root`."""
    lines = [line for line in (root / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    assert lines[0] == "*", "everything is left out first"
    hidden = [line.removeprefix("**/") for line in lines[1:] if not line.startswith("!")]
    files: list[Path] = []
    for name in (line[1:] for line in lines if line.startswith("!")):
        path = root / name
        assert path.exists(), f"{name} is not there"
        files += [path] if path.is_file() else [file for file in path.rglob("*") if file.is_file()]
    relative = (file.relative_to(root) for file in files)
    return sorted(file for file in relative if not any(_hides(pattern, file) for pattern in hidden))


def _hides(pattern: str, file: Path) -> bool:
    return file.is_relative_to(pattern) or pattern in file.parts


def _filled(text: str, arguments: dict[str, str]) -> str:
    return re.sub(r"\$\{(\w+)\}", lambda match: arguments[match[1]], text)
