"""`rankgate policy replay` on exports and a real Redis: what it counts, how it ends, what it cannot be made to do."""

from __future__ import annotations

import io
import json
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.events import DIGEST, TIME, completion, decision, lifecycle
from fakes.valkey import running

from rankgate.audit import AuditEvent, Call, StoredQuestion
from rankgate.audit.again import UNASKABLE, read_decision
from rankgate.audit.entry import BodyError, to_fields
from rankgate.audit.names import stream_key
from rankgate.audit.ocsf import Source, render
from rankgate.cli import root
from rankgate.errors import Reason
from rankgate.policy.verdict import CHANGES

pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

SOURCE = Source("default", "local/ext_authz-0/1", "1.0", DIGEST)
FEW = "package rankgate\n\ndecision := input.rerank.document_count < 3\n"
FEWER = FEW.replace("3", "2")


def asked(count: int = 1, *, why: tuple[str, ...] = (), **changes: Any) -> AuditEvent:
    """Return a decision of FEW on a call with `count` documents."""
    question = StoredQuestion(f'{{"rerank":{{"document_count":{count}}}}}'.encode(), not why, why)
    ruling = {"allowed": True} if count < 3 else {"allowed": False, "status": 403}
    return decision(count, **{"question": question, "ruling": ruling, **changes})


def export(folder: Path, *events: AuditEvent | bytes) -> Path:
    file = folder / "export.ndjson"
    lines = [event if isinstance(event, bytes) else render(event, SOURCE, n) for n, event in enumerate(events)]
    file.write_bytes(b"".join(line + b"\n" for line in lines))
    return file


def replay(folder: Path, *arguments: str | Path, policy: str = FEW, stdin: bytes = b"") -> Result:
    place = folder / "policy"
    place.mkdir(exist_ok=True)
    (place / "a.rego").write_text(policy)
    command = ["policy", "replay", "--policy", str(place), *map(str, arguments)]
    told = CliRunner().invoke(root, command, input=stdin, prog_name="rankgate")
    assert "Traceback" not in told.output
    return told


def report(told: Result) -> dict[str, Any]:
    found = json.loads(told.stdout)
    assert isinstance(found, dict)
    return found


def test_the_same_policy_rules_the_same(tmp_path: Path) -> None:
    told = replay(tmp_path, "--from", export(tmp_path, *map(asked, range(1, 6))), "-o", "json", "--fail-on-change")
    assert told.exit_code == 0
    assert {name: report(told)[name] for name in ("decisions", "replayed", "same", "changed")} == {
        "decisions": 5, "replayed": 5, "same": 5, "changed": 0,
    }  # fmt: skip


def test_what_would_change_is_told_with_receipts(tmp_path: Path) -> None:
    file = export(tmp_path, *map(asked, range(1, 6)))
    told = replay(tmp_path, "--from", file, policy=FEWER)
    assert told.exit_code == 0
    assert "replayed 5: 4 the same, 1 changed" in told.output
    assert "decision-2  allowed -> denied (403)" in told.output
    assert replay(tmp_path, "--from", file, "--fail-on-change", policy=FEWER).exit_code == 3


def test_the_object_of_a_program_has_the_same_members_whatever_was_found(tmp_path: Path) -> None:
    empty = report(replay(tmp_path, "--from", export(tmp_path), "-o", "json"))
    full = report(replay(tmp_path, "--from", export(tmp_path, asked(2), asked(why=("query",))), "-o", "json"))
    assert empty.keys() == full.keys()
    assert list(empty["changes"]) == list(full["changes"]) == list(CHANGES)
    assert list(empty["not_replayable"]) == ["total", *UNASKABLE]


@pytest.mark.parametrize(
    ("event", "word", "because"),
    [
        (
            asked(question_digest="", question=None, ruling={}, reason=Reason.TOKEN_INVALID),
            "before_policy",
            "token_invalid",
        ),
        (asked(question=None), "no_question", None),
        (asked(question=StoredQuestion(why=("budget",))), "budget", None),
        (asked(ruling={}, reason=Reason.POLICY_TIMEOUT), "policy_timeout", None),
        (asked(ruling={}, reason=Reason.POLICY_UNAVAILABLE), "policy_unavailable", None),
        (asked(ruling={}, reason=Reason.DEADLINE_EXCEEDED), "no_ruling", None),
        (asked(why=("query", "raw_body")), "policy_inputs", "raw_body"),
        (asked(why=("query",)), "inexact", "query"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_cannot_be_asked_again_is_counted_by_why(
    tmp_path: Path, event: AuditEvent, word: str, because: str | None
) -> None:
    found = report(replay(tmp_path, "--from", export(tmp_path, event), "-o", "json"))
    assert (found["replayed"], found["not_replayable"]["total"], found["not_replayable"][word]) == (0, 1, 1)
    assert found["because"] == ({word: {because: 1}} if because else {})


def test_a_policy_that_gave_no_ruling_is_asked_again_too(tmp_path: Path) -> None:
    event = asked(2, ruling={}, reason=Reason.POLICY_UNDEFINED, allowed=False)
    found = report(replay(tmp_path, "--from", export(tmp_path, event), "-o", "json"))
    assert found["changes"]["newly_allowed"]["count"] == 1
    silent = "package rankgate\n\ndecision if input.route\n"
    assert report(replay(tmp_path, "--from", export(tmp_path, event), "-o", "json", policy=silent))["same"] == 1


def test_inexact_questions_are_asked_where_that_is_wanted_and_told_apart(tmp_path: Path) -> None:
    file = export(tmp_path, asked(2), asked(2, why=("query",)), asked(2, why=("raw_body",)))
    found = report(replay(tmp_path, "--from", file, "--inexact", "-o", "json", policy=FEWER))
    assert (found["replayed"], found["inexact"], found["not_replayable"]["policy_inputs"]) == (2, 1, 1)
    assert [one["exact"] for one in found["changes"]["newly_denied"]["examples"]] == [True, False]


def test_other_events_are_passed_over_and_the_window_and_the_route_are_kept(tmp_path: Path) -> None:
    events = [lifecycle(), completion(), *(asked(n, call=Call(route=f"r{n}")) for n in (1, 2))]
    file = export(tmp_path, *events, b'{"rankgate":"unconfirmed","decision_id":"x"}')

    def decisions(*options: str) -> int:
        return int(report(replay(tmp_path, "--from", file, "-o", "json", *options))["decisions"])

    assert decisions() == 2
    assert decisions("--route", "r2") == 1
    assert decisions("--deployment", "default") == 2
    assert decisions("--deployment", "another") == 0
    assert decisions("--since", f"{TIME + 2}-0") == 1
    assert decisions("--until", f"{TIME + 1}-0") == 1
    assert decisions("--since", "2020-01-01T00:00:00Z", "--until", "2021-01-01T00:00:00Z") == 0


@pytest.mark.parametrize(
    "line",
    [
        b"{",
        b"[]",
        b'{"rankgate":"mismatch","stream":"s","id":"1-1","differs":["time"],"fields":{},"body":"{}"}',
        render(asked(), SOURCE, 0).replace(b'"allowed":true', b'"allowed":"yes"'),
        render(asked(), SOURCE, 0).replace(b'"document_count":1}', b'"document_count":"1"}'),
        render(asked(), SOURCE, 0).replace(b'"kind":"decision"', b'"kind":"decision","kind":"lifecycle"'),
    ],
)
def test_what_is_no_event_is_counted_and_ends_in_1_after_the_rest(tmp_path: Path, line: bytes) -> None:
    told = replay(tmp_path, "--from", export(tmp_path, line, asked(2)), "-o", "json")
    assert told.exit_code == 1
    assert (report(told)["unreadable"], report(told)["same"]) == (1, 1)


def test_an_export_may_come_by_standard_input(tmp_path: Path) -> None:
    data = export(tmp_path, asked(2)).read_bytes()
    assert report(replay(tmp_path, "--from", "-", "-o", "json", stdin=data))["same"] == 1


def test_a_policy_that_does_not_load_and_a_question_about_nothing_are_refused(tmp_path: Path) -> None:
    file = export(tmp_path, asked())
    told = replay(tmp_path, "--from", file, policy="package rankgate\n\ndecision := time.now_ns() > 0\n")
    assert (told.exit_code, "time.now_ns is refused" in told.output) == (1, True)
    assert replay(tmp_path).exit_code == 2
    assert replay(tmp_path, "--from", file, "--redis", "unix:///nowhere").exit_code == 2
    assert replay(tmp_path, "--from", file, "--since", "1h", "--until", "2h").exit_code == 2
    assert replay(tmp_path, "--redis", "unix:///nowhere").exit_code == 1


def test_nothing_a_policy_says_commands_a_terminal(tmp_path: Path) -> None:
    policy = (
        'package rankgate\n\ndecision := {"allowed": true, "rankgate": {"approval": {"groups": ["\\u001b[31m"]}}}\n'
    )
    told = replay(tmp_path, "--from", export(tmp_path, asked(2)), policy=policy)
    assert "approval_added" in told.output
    assert "\x1b" not in told.output


def test_it_reads_a_real_redis_and_finds_an_altered_entry(tmp_path: Path) -> None:
    key = stream_key("default", SOURCE.log)
    with running() as server, server.client() as client:
        for number in range(1, 1203):
            leaf = render(asked(1 + number % 4), SOURCE, number)
            client.xadd(key, to_fields(leaf), id=f"{TIME + number}-{number}")
        found = report(replay(tmp_path, "--redis", server.url, "-o", "json", policy=FEWER))
        assert (found["replayed"], found["changed"], found["unreadable"]) == (1202, 301, 0)
        altered = to_fields(render(asked(1), SOURCE, 1203)) | {"id": b"7"}
        client.xadd(key, altered, id=f"{TIME + 1203}-1203")
        told = replay(tmp_path, "--redis", server.url, "-o", "json")
        assert (told.exit_code, report(told)["unreadable"]) == (1, 1)


def test_memory_stays_flat_whatever_the_length_of_a_trail(tmp_path: Path) -> None:
    from rankgate.cli.policy_replay import Replay, bodies
    from rankgate.clients.policy_files import read_policies
    from rankgate.clients.rego import load_decision

    (tmp_path / "a.rego").write_text(FEWER)
    files = read_policies(tmp_path)
    line = render(asked(2), SOURCE, 0) + b"\n"

    class Export(io.RawIOBase):
        def __init__(self, count: int) -> None:
            self.left = count

        def __iter__(self) -> Iterator[bytes]:  # type: ignore[override]
            while self.left:
                self.left -= 1
                yield line

    def peak(count: int) -> int:
        run = Replay(*load_decision(files, "rankgate/decision"), files.revision, "authorization")
        tracemalloc.start()
        run.run(bodies(Export(count)))  # type: ignore[arg-type]
        _, most = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert run.changed == count
        return most

    peak(50)
    assert peak(2000) < 2 * peak(200)


@pytest.mark.parametrize(
    "body", [b"", b"{}", b"[" * 100_000, b'{"time":1,"unmapped":{"rankgate":{"kind":"decision"}}}']
)
def test_whatever_the_body_reading_it_raises_only_our_error(body: bytes) -> None:
    with pytest.raises(BodyError):
        read_decision(body)
