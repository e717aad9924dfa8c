"""Imports point one way, and only named modules open anything: docs/decisions/imports.md says why."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "decisions" / "imports.md"

# Who may import whom: what stands before it, and its own package.
ORDER = (
    "errors", "request", "settings",
    "strict", "jsontext", "headers", "bearer", "keyset", "claims", "identity", "dialects", "detect", "masking",
    "policy", "credentials", "minting", "issued", "approvals",
    "handoff", "decision", "rewrite",
    "audit",
    "version", "resources", "envoyconfig",
    "clients",
    "console", "demo", "cli", "ext_authz", "ext_proc",
)  # fmt: skip
SHELLS = ("console", "demo", "cli", "ext_authz", "ext_proc")
CORE = ORDER[: ORDER.index("clients")]

# What reaches outside a function's arguments: network, files, processes, the clock, randomness, a log.
OUTSIDE = {
    "aiohttp", "asyncio", "fcntl", "grpc", "grpc_health", "http", "httpx", "logging", "opa_client", "os", "random",
    "redis", "regorus", "requests", "secrets", "select", "shutil", "signal", "socket", "ssl", "structlog", "subprocess",
    "tempfile", "time", "uuid", "uvloop", "watchfiles",
}  # fmt: skip
CALLS_OUTSIDE = {
    "open", "now", "today", "utcnow", "read_text", "read_bytes", "write_text", "write_bytes", "mkdir", "unlink",
    "iterdir", "glob", "urandom",
}  # fmt: skip
OPENERS = {"settings", "resources"}

# Messages, by the packages that define them, and the only files that name them.
MESSAGES = {
    "rankgate.pb": {"ext_authz/wire.py", "ext_proc/wire.py"},
    "google.protobuf": {"ext_authz/wire.py", "ext_proc/wire.py"},
    "google.rpc": {"ext_authz/wire.py", "ext_proc/wire.py"},
    "grpc_health": {f"rankgate/clients/{name}.py" for name in ("handover", "processor", "serving")},
}


def sources() -> list[Path]:
    """Return every module of the three packages, generated ones left out."""
    found = [path for top in ("rankgate", "ext_authz", "ext_proc") for path in (ROOT / top).rglob("*.py")]
    return sorted(path for path in found if "pb" not in path.relative_to(ROOT).parts)


def part_of(path: Path) -> str:
    """Return the word in ORDER that a module belongs to; empty for the map in rankgate/__init__.py."""
    top, *rest = path.relative_to(ROOT).with_suffix("").parts
    return top if top != "rankgate" else rest[0].removeprefix("__init__")


def imports(tree: ast.AST) -> Iterator[str]:
    """Yield every module that is imported, at the top or inside a function, as a dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def parts_imported(tree: ast.AST) -> set[str]:
    """Return the words in ORDER that are imported."""
    names = [name.split(".") for name in imports(tree)]
    inner = {name[1] for name in names if name[0] == "rankgate" and len(name) > 1}
    return (inner & {*ORDER}) | ({name[0] for name in names} & {"ext_authz", "ext_proc"})


def wrong_way(part: str, tree: ast.AST) -> set[str]:
    """Return what `part` imports although it does not stand before it."""
    place = ORDER.index(part)
    return {other for other in parts_imported(tree) if other != part and ORDER.index(other) >= place}


def outside(tree: ast.AST) -> set[str]:
    """Return what reaches outside: imported modules, and calls by name."""
    found = {name.split(".")[0] for name in imports(tree)} & OUTSIDE
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            found |= {f"{name}()"} if name in CALLS_OUTSIDE else set()
    return found


def messages(tree: ast.AST) -> set[str]:
    """Return the packages of protobuf messages that are imported."""
    return {package for name in imports(tree) for package in MESSAGES if f"{name}.".startswith(f"{package}.")}


def read(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def each(parts: tuple[str, ...]) -> pytest.MarkDecorator:
    paths = [path for path in sources() if part_of(path) in parts]
    return pytest.mark.parametrize("path", paths, ids=lambda path: str(path.relative_to(ROOT)))


def test_every_module_has_its_place_in_the_order_and_every_place_a_module() -> None:
    assert {part_of(path) for path in sources()} - {""} == {*ORDER}


@each(ORDER)
def test_a_module_imports_only_what_stands_before_it(path: Path) -> None:
    assert wrong_way(part_of(path), read(path)) == set()


@each(CORE)
def test_the_core_reaches_nothing_outside_its_arguments(path: Path) -> None:
    found = outside(read(path))
    if part_of(path) == "settings":
        found -= {"os"} if path.name == "__init__.py" else set()
    assert found - ({"read_text()"} if part_of(path) in OPENERS else set()) == set()


@each(ORDER)
def test_messages_are_named_only_where_the_wire_is(path: Path) -> None:
    name = str(path.relative_to(ROOT))
    assert {package for package in messages(read(path)) if name not in MESSAGES[package]} == set()


@each(("ext_authz", "ext_proc"))
def test_neither_filter_imports_the_other_or_another_program(path: Path) -> None:
    assert parts_imported(read(path)) & ({*SHELLS} - {part_of(path)}) == set()


def test_the_page_names_the_same_order() -> None:
    rows = [line.split("|")[2] for line in PAGE.read_text(encoding="utf-8").splitlines() if line.startswith("| ")]
    named = [word.strip(" `") for row in rows[1:] for word in row.split(",")]
    assert named == list(ORDER)


def test_the_environment_is_read_in_one_place_of_the_core() -> None:
    readers = [path for path in sources() if part_of(path) in CORE and "os" in outside(read(path))]
    assert [str(path.relative_to(ROOT)) for path in readers] == ["rankgate/settings/__init__.py"]


@pytest.mark.parametrize(
    ("part", "text", "wrong"),
    [
        ("decision", "from rankgate.audit import What", {"audit"}),
        ("handoff", "import rankgate.decision", {"decision"}),
        ("detect", "from rankgate import masking", {"masking"}),
        ("clients", "def later():\n    from rankgate.cli.up import up", {"cli"}),
        ("ext_authz", "from ext_proc import wire", {"ext_proc"}),
        ("cli", "from rankgate.demo import story", set()),
        ("rewrite", "from rankgate import jsontext\nfrom rankgate.handoff import Handoff", set()),
    ],
)
def test_an_import_against_the_order_is_found(part: str, text: str, wrong: set[str]) -> None:
    assert wrong_way(part, ast.parse(text)) == wrong


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import os.path", {"os"}),
        ("from os import environ", {"os"}),
        ("from grpc.aio import Server", {"grpc"}),
        ("from datetime import datetime\ndatetime.now()", {"now()"}),
        ("open('a')", {"open()"}),
        ("from pathlib import Path\nPath('a').read_text()", {"read_text()"}),
        ("import re\nre.compile('a')", set()),
    ],
)
def test_what_reaches_outside_is_found(text: str, found: set[str]) -> None:
    assert outside(ast.parse(text)) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("from rankgate.pb import ext_authz_pb2", {"rankgate.pb"}),
        ("from rankgate import pb", {"rankgate.pb"}),
        ("from google.protobuf.json_format import MessageToDict", {"google.protobuf"}),
        ("from grpc_health.v1 import health_pb2", {"grpc_health"}),
        ("import grpc", set()),
    ],
)
def test_messages_are_found(text: str, found: set[str]) -> None:
    assert messages(ast.parse(text)) == found
