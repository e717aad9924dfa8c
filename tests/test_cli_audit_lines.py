"""The table fits its terminal, shows a receipt whole, and colours what it means to."""

from __future__ import annotations

from typing import Any

import click
import pytest

from rankgate.audit.entry import Row
from rankgate.cli.audit_lines import Table
from rankgate.errors import Reason

RECEIPT = "dec-" + "a" * 26
ROW = Row(
    kind="decision", deployment="default", log="local/ext_authz-0/1", index=1, time=1_790_000_000_123,
    decision_id=RECEIPT, allowed=False, reason="policy_denied", subject="a-subject-with-a-long-name",
    tenant="acme", route="cohere-v2", documents=3, findings=1, note="this client is not known here",
)  # fmt: skip


def changed(**changes: Any) -> Row:
    import dataclasses

    return dataclasses.replace(ROW, **changes)


def plain(text: str, **_: Any) -> str:
    return text


@pytest.mark.parametrize("width", [80, 100, 120, 132, 160, 200])
def test_a_row_fits_and_shows_its_receipt(width: int) -> None:
    table = Table(plain, width)
    for line in (table.heading(), table.event(ROW), table.event(changed(reason="x" * 90))):
        text = line.decode().rstrip("\n")
        assert len(text) <= width
    assert table.event(ROW).decode().rstrip().endswith(RECEIPT)
    heading, row = table.heading().decode(), table.event(ROW).decode()
    assert heading.index("RECEIPT") == row.index(RECEIPT)


@pytest.mark.parametrize("reason", list(Reason))
def test_no_reason_word_is_cut_at_120(reason: Reason) -> None:
    assert reason.value in Table(plain, 120).event(changed(reason=reason.value)).decode()


def test_the_policys_reason_stands_behind_the_word_where_it_fits() -> None:
    assert "policy_denied: this client is not known here" in Table(plain, 120).event(ROW).decode()
    assert "policy_denied: this c…" in Table(plain, 80).event(ROW).decode()


def test_nothing_is_cut_in_a_pipe() -> None:
    told = Table(plain, None).event(changed(note="n" * 300)).decode()
    assert "n" * 300 in told
    assert ROW.subject in told
    assert told.startswith("2026-09-21T")


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({}, 31),
        ({"allowed": True}, 32),
        ({"allowed": None, "outcome": "upstream_error"}, 31),
        ({"allowed": None, "outcome": "aborted"}, 33),
        ({"allowed": None, "what": "alarm"}, 33),
    ],
)
def test_what_matters_is_coloured(changes: dict[str, Any], code: int) -> None:
    assert f"\x1b[{code}m" in Table(click.style, 120).event(changed(**changes)).decode()


def test_what_has_no_colour_has_no_reset_either() -> None:
    assert b"\x1b" not in Table(click.style, 120).event(changed(allowed=None, outcome="complete"))
