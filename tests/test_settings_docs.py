"""The pages of settings list every setting exactly; schema, page and environment agree, for gate and console."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner
from pydantic import BaseModel

from rankgate.cli import root
from rankgate.cli.settings_page import rows
from rankgate.console.settings import ConsoleSettings
from rankgate.settings import Settings

DOCS = Path(__file__).parent.parent / "docs"
PAGES = {"settings.md": [], "console-settings.md": ["--console"]}
both = pytest.mark.parametrize("settings", [Settings, ConsoleSettings])


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_what_the_schema_says(name: str) -> None:
    printed = CliRunner().invoke(root, ["config", "docs", *PAGES[name]])
    assert printed.exit_code == 0, printed.output
    assert (DOCS / name).read_text(encoding="utf-8") == printed.stdout, "write it again: make docs"


def test_without_its_extra_the_consoles_page_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankgate.cli.console.EXTRA", ("no_such_module",))
    refused = CliRunner().invoke(root, ["config", "docs", "--console"])
    assert refused.exit_code == 1
    assert "rankgate[console]" in refused.output


@both
def test_every_setting_has_a_description_that_is_a_sentence(settings: type[BaseModel]) -> None:
    bare = [row.name for row in rows(settings) if not row.description.endswith(".")]
    assert not bare


@both
def test_every_leaf_of_the_json_schema_has_its_row(settings: type[BaseModel]) -> None:
    schema = settings.model_json_schema()
    found: set[str] = set()

    def walk(node: dict, name: str) -> None:
        # A section that may be absent is one all the same.
        node = next((choice for choice in node.get("anyOf", ()) if "$ref" in choice), node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].rsplit("/", 1)[1]]
        entries = [*node.get("patternProperties", {}).values(), node.get("additionalProperties")]
        named = [entry for entry in entries if isinstance(entry, dict) and "$ref" in entry]
        if "$ref" in node.get("items", {}):
            found.add(name)
            walk(node["items"], f"{name}[]")
        elif named:
            found.add(name)
            walk(named[0], f"{name}.<name>")
        elif "properties" in node:
            for key, inner in node["properties"].items():
                walk(inner, f"{name}.{key}" if name else key)
        else:
            found.add(name)

    walk(schema, "")
    assert found == {row.name for row in rows(settings)}
