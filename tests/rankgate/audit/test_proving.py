"""What is changed in copies of logs is found, with the first entry that is not what it was; what cannot be is said."""

from __future__ import annotations

import base64
import functools
import os
import random
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import pytest
from fakes.copies import ENDED, NEXT_LOG, WHOLE, copies, entries, rendered, sealed, stored_entry
from fakes.events import decision, lifecycle
from fakes.seals import KEY, NEXT

from rankgate.audit import What, verifying
from rankgate.audit.checkpoint import Kind, sign_rotation
from rankgate.audit.copies import LogCopy, StoredEntry, add_lines, entry_line
from rankgate.audit.note import Signer, new_signing_key, signers
from rankgate.audit.proving import Report, prove
from rankgate.audit.sealed import Sealed
from rankgate.audit.verifying import LogReport

Copies = dict[str, LogCopy]
ROUNDS = int(os.environ.get("MANIPULATIONS", "20000"))
SHARDS = 4


def proved(found: Copies, anchors: Copies | None = None) -> Report:
    return prove(found, anchors, [KEY.verifier])


def of(report: Report, log: str) -> LogReport:
    return next(one for one in report.logs if one.log == log)


def words(report: Report) -> set[str]:
    return {note.word for log in report.logs for note in log.notes}


def test_what_nobody_touched_is_verified() -> None:
    report = proved(copies(), copies())
    assert report.verified
    assert [log.log for log in report.logs] == [WHOLE, ENDED, NEXT_LOG]
    assert [(log.entries, log.covered) for log in report.logs] == [(12, 12), (9, 9), (7, 7)]
    assert report.not_proven == ()
    assert words(report) == set()


def test_without_a_second_place_the_tail_and_the_set_of_logs_are_not_proven() -> None:
    report = proved(copies())
    assert report.verified
    assert report.not_proven == ("tail", "logs")


def test_nothing_is_not_verified() -> None:
    assert not proved({}).verified
    with pytest.raises(ValueError, match="one deployment"):
        prove(copies(), None, [])
    (other,) = signers(new_signing_key(), "other")
    with pytest.raises(ValueError, match="one deployment"):
        prove(copies(), None, [KEY.verifier, other.verifier])


def test_copies_that_were_written_and_read_again_are_the_same() -> None:
    lines = []
    for log, one in copies().items():
        lines += [entry_line(log, entry) for entry in one.entries] + [each.line for each in one.sealed]
    again: Copies = {}
    assert add_lines(again, [*lines, b"\n"]) == []
    assert again == copies()
    odd = StoredEntry(1, 2, b"\xff\x00")
    assert add_lines(again, [entry_line("odd", odd)]) == []
    assert again["odd"].entries == [odd]


@pytest.mark.parametrize(
    "line",
    [b"x", b"[]", b'{"entry":{}}', b'{"entry":[]}', b'{"entry":{"log":1,"index":0,"ms":0,"body":""}}',
     b"[" * 100_000, b'{"checkpoint":"x","leaves":""}', b'{"entry":{"log":"a","index":true,"ms":0,"body":""}}',
     b"{}", b"\xff"],
)  # fmt: skip
def test_a_line_that_is_neither_is_told(line: bytes) -> None:
    assert add_lines({}, [b"", line]) == ["line 2 is neither an entry nor a checkpoint"]


# -- what somebody may do to copies -----------------------------------------------------------------------------------


def forged(entry: StoredEntry, log: str, place: int) -> StoredEntry:
    """Return another decision that says it belongs there."""
    return stored_entry(rendered(log, decision(900 + entry.index), place), place)


def edit(draw: random.Random, found: Copies, log: str) -> None:
    place = draw.randrange(len(found[log].entries))
    found[log].entries[place] = forged(found[log].entries[place], log, place)


def edit_a_byte(draw: random.Random, found: Copies, log: str) -> None:
    place = draw.randrange(len(found[log].entries))
    entry = found[log].entries[place]
    body = bytearray(entry.body)
    body[draw.randrange(len(body))] ^= 1 << draw.randrange(8)
    found[log].entries[place] = replace(entry, body=bytes(body))


def edit_a_field(draw: random.Random, found: Copies, log: str) -> None:
    place = draw.randrange(len(found[log].entries))
    entry = found[log].entries[place]
    name = draw.choice(sorted({*(entry.fields or {})} - {"trace"}))
    found[log].entries[place] = replace(entry, fields={**(entry.fields or {}), name: "another"})


def delete(draw: random.Random, found: Copies, log: str) -> None:
    place = draw.randrange(len(found[log].entries))
    del found[log].entries[place : place + draw.randint(1, 3)]


def reorder(draw: random.Random, found: Copies, log: str) -> None:
    draw.shuffle(found[log].entries)


def swap(draw: random.Random, found: Copies, log: str) -> None:
    rows = found[log].entries
    a, b = draw.randrange(len(rows)), draw.randrange(len(rows))
    rows[a], rows[b] = rows[b], rows[a]


def insert(draw: random.Random, found: Copies, log: str) -> None:
    rows = found[log].entries
    place = draw.randint(0, len(rows))
    other = draw.choice(SOUND[draw.choice(list(SOUND))].entries)
    rows.insert(place, draw.choice([other, forged(other, log, place)]))


def splice(draw: random.Random, found: Copies, log: str) -> None:
    other = SOUND[draw.choice([name for name in SOUND if name != log])].entries
    place, length = draw.randrange(len(found[log].entries)), draw.randint(1, 4)
    taken = other[place : place + length]
    if draw.random() < 0.5:
        taken = [forged(entry, log, place + at) for at, entry in enumerate(taken)]
    found[log].entries[place : place + length] = taken


def cut(draw: random.Random, found: Copies, log: str) -> None:
    """Cut the log, and with it every checkpoint that would tell."""
    size = draw.randrange(len(found[log].entries))
    if draw.random() < 0.5 and found[log].sealed:
        size = draw.choice([one.checkpoint.size for one in found[log].sealed])
    del found[log].entries[size:]
    if draw.random() < 0.7:
        found[log].sealed = [one for one in found[log].sealed if one.checkpoint.size <= size]
        while found[log].sealed and found[log].sealed[-1].checkpoint.kind is Kind.CLOSE and draw.random() < 0.5:
            found[log].sealed.pop()


def cut_the_front(draw: random.Random, found: Copies, log: str) -> None:
    del found[log].entries[: draw.randint(1, len(found[log].entries))]


def delete_log(draw: random.Random, found: Copies, log: str) -> None:
    del found[log]


def strip_hashes(draw: random.Random, found: Copies, log: str) -> None:
    found[log].sealed = [replace(one, leaves=()) for one in found[log].sealed]


def spoil_hashes(draw: random.Random, found: Copies, log: str) -> None:
    rows = [place for place, one in enumerate(found[log].sealed) if one.leaves]
    if rows:
        place = draw.choice(rows)
        leaves = list(found[log].sealed[place].leaves)
        leaves[draw.randrange(len(leaves))] = draw.randbytes(32)
        found[log].sealed[place] = replace(found[log].sealed[place], leaves=tuple(leaves))


def delete_checkpoint(draw: random.Random, found: Copies, log: str) -> None:
    if found[log].sealed:
        del found[log].sealed[draw.randrange(len(found[log].sealed))]


def delete_checkpoints(draw: random.Random, found: Copies, log: str) -> None:
    found[log].sealed = []


def swap_checkpoints(draw: random.Random, found: Copies, log: str) -> None:
    draw.shuffle(found[log].sealed)


def another_logs_checkpoint(draw: random.Random, found: Copies, log: str) -> None:
    other = SOUND[draw.choice([name for name in SOUND if name != log])].sealed
    found[log].sealed[draw.randrange(len(found[log].sealed) or 1) :][:1] = []
    found[log].sealed.append(draw.choice(other))


def sign_anew(draw: random.Random, found: Copies, log: str) -> None:
    """Sign what is there with another key."""
    heads = [(min(one.checkpoint.size, len(found[log].entries)), one.checkpoint.kind) for one in found[log].sealed]
    found[log].sealed = sealed(log, found[log].entries, heads, NEXT)


ON_ENTRIES: list[Callable[[random.Random, Copies, str], None]] = [
    edit, edit_a_byte, edit_a_field, delete, reorder, swap, insert, splice, cut, cut_the_front, delete_log,
]  # fmt: skip
ON_CHECKPOINTS: list[Callable[[random.Random, Copies, str], None]] = [
    strip_hashes, spoil_hashes, delete_checkpoint, delete_checkpoints, swap_checkpoints, another_logs_checkpoint,
    sign_anew,
]  # fmt: skip


def manipulated(draw: random.Random) -> Copies:
    """Return copies to which one to three things were done, of which any may cover the other's tracks."""
    found = copies_again()
    for _ in range(draw.choice([1, 1, 1, 2, 3])):
        log = draw.choice(list(found) or [WHOLE])
        how = draw.choice(ON_ENTRIES if draw.random() < 0.75 else ON_CHECKPOINTS)
        if log in found and (found[log].entries or how in ON_CHECKPOINTS or how is delete_log):
            how(draw, found, log)
    return found


SOUND = copies()
UNSIGNED = 7  # entries of ENDED from here on are under no checkpoint


def copies_again() -> Copies:
    return {log: LogCopy(log, 0, list(one.entries), list(one.sealed)) for log, one in SOUND.items()}


def first_difference(found: Copies, log: str) -> int | None:
    """Return the first place at which a log does not hold what it held; None where all is there."""
    if log not in found:
        return 0
    now, then = found[log].entries, SOUND[log].entries
    for place in range(max(len(now), len(then))):
        if now[place : place + 1] != then[place : place + 1]:
            return place
    return None


def names(report: LogReport, place: int) -> bool:
    """Tell whether the report names that place first, or, where it says it cannot know better, a range around it."""
    found = [fault for fault in report.faults if fault.index is not None]
    if not found or report.first_bad is None:
        return False
    if report.first_bad == place and any(fault.index == place and fault.exact for fault in found):
        return True
    return any(
        not fault.exact and fault.index == report.first_bad and fault.index <= place <= (fault.until or 0)
        for fault in found
    )


@pytest.fixture
def remembering(monkeypatch: pytest.MonkeyPatch) -> None:
    """Verify each note and parse each body once: the same few come again and again."""
    check, read = verifying.verify_checkpoint, verifying.read_body
    notes: dict[str, object] = {}

    def verify(note: str, keys: object) -> object:
        if note not in notes:
            try:
                notes[note] = check(note, keys)  # type: ignore[arg-type]
            except ValueError as error:
                notes[note] = error
        if isinstance(notes[note], ValueError):
            raise notes[note]  # type: ignore[misc]
        return notes[note]

    monkeypatch.setattr(verifying, "verify_checkpoint", verify)
    monkeypatch.setattr(verifying, "read_body", functools.cache(read))


@pytest.mark.usefixtures("remembering")
@pytest.mark.parametrize("shard", range(SHARDS))
def test_with_a_second_place_every_manipulation_is_found_with_its_first_bad_entry(shard: int) -> None:
    anchors = copies_again()
    done = 0
    for seed in range(shard, ROUNDS * 2, SHARDS):
        found = manipulated(random.Random(seed))
        if found == SOUND:
            continue
        report = proved(found, anchors)
        assert not report.verified, seed
        for log in SOUND:
            place = first_difference(found, log)
            if log == ENDED and place is not None and place >= UNSIGNED and first_difference(found, NEXT_LOG) == 0:
                continue  # all that vouched for its last entries was the first entry of the next log
            if place is not None:
                assert names(of(report, log), place), (seed, log, place, of(report, log).faults)
            else:
                assert of(report, log).first_bad is None, (seed, log, of(report, log).faults)
        done += 1
        if done == ROUNDS // SHARDS:
            break
    assert done == ROUNDS // SHARDS


@pytest.mark.usefixtures("remembering")
def test_without_a_second_place_only_cuts_at_a_checkpoint_and_last_logs_go_unseen() -> None:
    unseen = 0
    for seed in range(4000):
        found = manipulated(random.Random(seed))
        report = proved(found)
        assert report.not_proven == ("tail", "logs")
        if not report.verified or found == SOUND:
            continue
        unseen += 1
        for log in SOUND:
            if log not in found:
                assert log != ENDED or NEXT_LOG not in found or not found[NEXT_LOG].entries, seed
            elif found[log] != SOUND[log]:
                now, then, told = found[log], SOUND[log], of(report, log)
                assert now.sealed == then.sealed[: len(now.sealed)], seed
                assert now.entries[: told.covered] == then.entries[: told.covered], seed
                behind = {note.word for note in told.notes}
                assert len(now.entries) == told.covered or behind == {"unsigned_tail", "not_closed"}, seed
    assert unseen > 20


def test_a_cut_at_a_checkpoint_is_told_as_a_log_that_was_not_closed() -> None:
    found = copies()
    found[WHOLE] = LogCopy(WHOLE, 0, found[WHOLE].entries[:9], found[WHOLE].sealed[:6])
    report = proved(found)
    assert report.verified
    assert words(report) == {"not_closed"}
    report = proved(found, copies())
    assert of(report, WHOLE).first_bad == 9


def test_a_log_without_its_successor_is_missed_by_nobody_one_with_is() -> None:
    found = copies()
    del found[WHOLE]
    assert proved(found).verified
    del found[ENDED]
    report = proved(found)
    assert next((fault.word, fault.index) for fault in of(report, ENDED).faults) == ("log_missing", 0)
    assert {log.log for log in proved(found, copies()).logs if log.faults} == {WHOLE, ENDED}


def test_a_log_that_is_not_signed_is_not_verified_unless_the_next_one_holds_its_root() -> None:
    found = copies()
    found[ENDED].sealed = []
    assert of(proved(found), ENDED).covered == 9
    assert proved(found).verified
    found[WHOLE].sealed = []
    assert of(proved(found), WHOLE).faults[0].word == "unsigned"


def test_an_entry_of_the_disk_that_could_not_be_read_is_named() -> None:
    found = copies()
    found[WHOLE].spoilt.append((12, "the frame of entry 12 is damaged"))
    assert of(proved(found), WHOLE).first_bad == 12


def test_first_entries_that_were_deleted_after_shipping_are_vouched_for_by_the_hashes_beside_checkpoints() -> None:
    found = copies()
    found[WHOLE] = LogCopy(WHOLE, 6, found[WHOLE].entries[6:], found[WHOLE].sealed)
    assert proved(found).verified
    found[WHOLE].entries[1] = forged(found[WHOLE].entries[1], WHOLE, 7)
    assert of(proved(found), WHOLE).first_bad == 7


def test_silence_is_noted() -> None:
    found = copies()
    rows = found[WHOLE].entries
    late = sealed(WHOLE, rows, [(12, Kind.CLOSE)], first=40)
    head = replace(late[0].checkpoint, number=7)
    found[WHOLE].sealed[-1] = Sealed(replace(head, note=head.sign(KEY)), found[WHOLE].sealed[-1].leaves)
    assert words(proved(found)) == {"silent"}


def rotated(*keys: Signer) -> Copies:
    """Return a log that a row of keys signed, each handing over to the next."""
    notes = [sign_rotation("default", new, old, 5) for old, new in pairwise(keys)]
    rows = entries(
        WHOLE,
        [
            lifecycle(What.LOG_BEGAN),
            *(lifecycle(What.KEY_ROTATION, detail={"note": note}) for note in reversed(notes)),
        ],
    )
    last = sealed(WHOLE, rows, [(0, Kind.OPEN), (len(rows), Kind.CLOSE)], keys[-1])
    return {WHOLE: LogCopy(WHOLE, 0, rows, [*sealed(WHOLE, rows, [(0, Kind.OPEN)], keys[0]), last[1]])}


def test_a_key_counts_if_a_trusted_one_handed_over_to_it_however_many_came_between() -> None:
    (third,) = signers(new_signing_key(), "default")
    report = proved(rotated(KEY, NEXT, third))
    assert report.verified
    assert [one.key for one in report.rotations] == [NEXT.verifier, third.verifier]
    assert not prove(rotated(NEXT, third), None, [KEY.verifier]).verified


def test_a_root_that_is_no_base64_is_no_root() -> None:
    found = copies()
    detail = {"previous": ENDED, "entries": 9, "root": "?"}
    rows = entries(NEXT_LOG, [lifecycle(What.LOG_BEGAN, detail=detail)])
    found[NEXT_LOG] = LogCopy(NEXT_LOG, 0, rows, sealed(NEXT_LOG, rows, [(0, Kind.OPEN), (1, Kind.CLOSE)]))
    report = proved(found)
    assert of(report, ENDED).first_bad == 7
    assert base64.b64decode("") == b""
