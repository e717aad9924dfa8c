"""docs/settings.md lists every setting exactly; the schema, the page and the environment agree."""

from __future__ import annotations

from pathlib import Path

from rankgate.cli.settings_page import page, rows
from rankgate.settings import Settings

PAGE = Path(__file__).parent.parent / "docs" / "settings.md"


def test_the_page_is_what_the_schema_says() -> None:
    assert PAGE.read_text(encoding="utf-8") == page(), "write it again: rankgate config docs > docs/settings.md"


def test_every_setting_has_a_description_that_is_a_sentence() -> None:
    bare = [row.name for row in rows() if not row.description.endswith(".")]
    assert not bare


def test_every_leaf_of_the_json_schema_has_its_row() -> None:
    schema = Settings.model_json_schema()
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
    assert found == {row.name for row in rows()}
