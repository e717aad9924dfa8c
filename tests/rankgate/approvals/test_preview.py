"""What approvers see: sealed to the console, cut short, and opened by nobody else."""

from __future__ import annotations

import base64

import msgspec
import pyrage
import pytest

from rankgate.approvals import Opener, Preview, Sealer, redacted
from rankgate.errors import SettingsError

IDENTITY = pyrage.x25519.Identity.generate()
OPENER = Opener(f"{IDENTITY}\n")
SEALER = Sealer(f" {OPENER.recipient}\n")
PREVIEW = Preview("who is [EMAIL]", "rank by risk", ((0, "a document"), (7, "another")), True)


def sealed(data: bytes) -> str:
    return base64.b64encode(pyrage.encrypt(data, [IDENTITY.to_public()])).decode()


@pytest.mark.parametrize("preview", [PREVIEW, Preview(""), Preview("\u2028\x00ü" * 100)])
def test_the_console_reads_what_a_gate_sealed(preview: Preview) -> None:
    assert OPENER.open(SEALER.seal(preview)) == preview


def test_nothing_of_a_text_can_be_read_without_the_key() -> None:
    text = SEALER.seal(PREVIEW)
    for word in ("EMAIL", "risk", "document", "query"):
        assert word not in text and word.encode() not in base64.b64decode(text)
    assert SEALER.seal(PREVIEW) != text
    assert Opener(str(pyrage.x25519.Identity.generate())).open(text) is None


@pytest.mark.parametrize(
    "text",
    [
        "", "x", "AAAA", "\ud800", "ü", "age-encryption.org/v1", base64.b64encode(b"age-encryption.org/v1\n").decode(),
        base64.b64encode(pyrage.passphrase.encrypt(b"{}", "x")).decode(),
        sealed(b""), sealed(b"{}"), sealed(b"\xff"), sealed(b'{"query":1}'),
        sealed(b'{"query":"q","x":' + b"[" * 100_000),
    ],
)  # fmt: skip
def test_what_no_gate_sealed_is_no_preview(text: str) -> None:
    assert OPENER.open(text) is None


def test_a_changed_preview_is_none() -> None:
    data = base64.b64decode(SEALER.seal(PREVIEW))
    for place in range(0, len(data), 7):
        changed = data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        assert OPENER.open(base64.b64encode(changed).decode()) is None
    assert OPENER.open(SEALER.seal(PREVIEW) + "\n") is None


def test_a_key_of_another_kind_is_refused_with_the_remedy() -> None:
    with pytest.raises(SettingsError, match="age1"):
        Sealer(str(IDENTITY))
    with pytest.raises(SettingsError, match="AGE-SECRET-KEY-1"):
        Opener(OPENER.recipient)


def test_texts_within_the_limits_are_shown_whole() -> None:
    documents = [(position, "d" * 400) for position in range(20)]
    shown = redacted("q" * 2000, "i" * 400, documents)
    assert shown == Preview("q" * 2000, "i" * 400, tuple(documents), False)
    assert redacted("", None, []) == Preview("")
    assert redacted("q", "", []).instruction == ""


def test_what_is_longer_is_cut_and_said_to_be() -> None:
    assert redacted("q" * 2001, None, []) == Preview("q" * 2000 + "…", None, (), True)
    assert redacted("q", "i" * 401, []) == Preview("q", "i" * 400 + "…", (), True)
    assert redacted("q", None, [(3, "d" * 401)]) == Preview("q", None, ((3, "d" * 400 + "…"),), True)
    shown = redacted("q", None, ((position, "d") for position in range(5, 26)))
    assert [position for position, _ in shown.documents] == list(range(5, 25)) and shown.cut


def test_a_whole_preview_stays_small() -> None:
    text = SEALER.seal(redacted("ü" * 9000, "ü" * 9000, [(position, "ü" * 9000) for position in range(50)]))
    assert len(text) < 40_000
    assert msgspec.json.decode(msgspec.json.encode(PREVIEW), type=Preview) == PREVIEW
