"""The detection corpus: rows of text with their gold spans, and every way of hiding a value that it lists.

Written by vectors/detect/build.py from generators of its own; no third-party data is in it.
"""

from __future__ import annotations

import base64
import functools
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

__all__ = ["ENCODED", "LAYOUT", "UNICODE", "Row", "encodings", "rows", "values"]

_FILE = Path(__file__).parent / "vectors" / "detect" / "gold.jsonl"


@dataclass(frozen=True, slots=True)
class Row:
    """One text. `kind` is plain, unicode, encoded, layout or negative; `spans` are (type, start, end).

    `encoding` names how the value is hidden; its gold span then covers the whole hidden run. `phrase` is the
    shortest text around the value that must be found by itself, as some values need a word beside them.
    """

    id: str
    kind: str
    encoding: str
    text: str
    spans: tuple[tuple[str, int, int], ...]
    phrase: str


@functools.cache
def rows(kind: str | None = None) -> tuple[Row, ...]:
    """Return the rows of one kind, or all of them."""
    read = []
    for line in _FILE.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        if kind in {None, row["kind"]}:
            spans = tuple((name, start, end) for name, start, end in row["spans"])
            read.append(Row(row["id"], row["kind"], row["encoding"], row["text"], spans, row["phrase"]))
    return tuple(read)


def values() -> tuple[tuple[str, str, str], ...]:
    """Return (type, phrase, value) of every plain row with one value."""
    found = []
    for row in rows("plain"):
        if len(row.spans) == 1:
            name, start, end = row.spans[0]
            found.append((name, row.phrase, row.text[start:end]))
    return tuple(found)


def _each(mark: str) -> Callable[[str], str]:
    return lambda value: "".join(character + mark for character in value)


def _map(source: str, target: str) -> Callable[[str], str]:
    return lambda value: value.translate(str.maketrans(source, target))


def _full_width(value: str) -> str:
    return "".join(chr(ord(one) + 0xFEE0) if "!" <= one <= "~" else one for one in value)


def _middle(value: str) -> str:
    middle = (2 * len(value)) // 3
    return value[:middle] + "\n" + value[middle:]


def _b64(value: str) -> str:
    return base64.b64encode(value.encode()).decode()


UNICODE: dict[str, Callable[[str], str]] = {
    "full-width": _full_width,
    "arabic-indic digits": _map("0123456789", "٠١٢٣٤٥٦٧٨٩"),
    "devanagari digits": _map("0123456789", "०१२३४५६७८९"),
    "mathematical digits": _map("0123456789", "𝟎𝟏𝟐𝟑𝟒𝟓𝟔𝟕𝟖𝟗"),
    "circled digits": _map("123456789", "①②③④⑤⑥⑦⑧⑨"),
    "zero-width space": _each("\u200b"),
    "word joiner": _each("\u2060"),
    "soft hyphen": _each("\u00ad"),
    "combining marks": _each("\u0332"),
    "variation selectors": _each("\ufe0f"),
    "cyrillic look-alikes": _map("aceopxyABCEHKMOPTX", "асеорхуАВСЕНКМОРТХ"),
    "greek look-alikes": _map("oABEHIKMNOPTXYZ", "οΑΒΕΗΙΚΜΝΟΡΤΧΥΖ"),
    "special dashes and spaces": _map("- .", "\u2011\u00a0\u2024"),
}
ENCODED: dict[str, Callable[[str], str]] = {
    "base64": _b64,
    "base64url": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "base64 twice": lambda value: _b64(_b64(value)),
    "hex": lambda value: value.encode().hex(),
    "hex with spaces": lambda value: value.encode().hex(" "),
    "percent": lambda value: "".join(f"%{byte:02X}" for byte in value.encode()),
    "percent where needed": lambda value: quote(value, safe=""),
    "percent twice": lambda value: quote("".join(f"%{byte:02X}" for byte in value.encode())),
    "decimal entities": lambda value: "".join(f"&#{ord(one)};" for one in value),
    "hexadecimal entities": lambda value: "".join(f"&#x{ord(one):x};" for one in value),
    "doubled json escapes": lambda value: "".join(f"\\u{ord(one):04x}" for one in value),
    "json string in json string": lambda value: json.dumps(json.dumps({"note": value})),
    "base64 of percent": lambda value: _b64(quote(value, safe="")),
}
LAYOUT: dict[str, Callable[[str], str]] = {
    "every character spaced": " ".join,
    "newline inside": _middle,
    "glued to letters": lambda value: "id" + value,
}


def encodings(value: str) -> dict[str, str]:
    """Return every hidden form of `value` the corpus lists, by name; forms that change nothing are left out."""
    forms = {name: hide(value) for name, hide in (UNICODE | ENCODED | LAYOUT).items()}
    if value.count("@") == 1 and not set(" :") & set(value):
        name, _, domain = value.partition("@")
        forms["[at] and [dot]"] = f"{name} [at] {domain.replace('.', ' [dot] ')}"
        forms["(at)"] = f"{name}(at){domain}"
    return {name: form for name, form in forms.items() if form != value}
