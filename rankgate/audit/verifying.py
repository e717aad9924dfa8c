"""One log against what was signed of it: which is the first entry that is not what it was, and what is not proven.

Entries are judged by where they stand. Each signed root is reached from the one before: over the entries as found, or,
where they do not lead there, over the leaf hashes that came with checkpoints. Hashes that lead to a signed root are as
good as signed, and comparing entries with them names the very one that differs. Where neither leads there, all that
can be said is between which two checkpoints it lies.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

from rankgate.audit.checkpoint import Checkpoint, Kind, verify_checkpoint
from rankgate.audit.copies import LogCopy, StoredEntry
from rankgate.audit.entry import BodyError, differing, read_body
from rankgate.audit.names import stream_key
from rankgate.audit.note import NoteError, Verifiers
from rankgate.audit.sealed import Sealed
from rankgate.audit.tree import RightEdge, leaf_hash

__all__ = ["Ended", "Fault", "LogReport", "Note", "judge_end", "verify_log"]

SILENCE_MS = 30_000


@dataclass(frozen=True, slots=True)
class Fault:
    """Something that an unchanged log cannot show. `index` is the first entry concerned, None where none is.

    With `exact` False the first bad entry is that one or another below `until`.
    """

    word: str
    text: str
    index: int | None = None
    exact: bool = True
    until: int | None = None


@dataclass(frozen=True, slots=True)
class Ended:
    """What the first entry of the next log in a slot says of the one before: its entries, and the root over them."""

    size: int
    root: bytes | None


@dataclass(frozen=True, slots=True)
class Note:
    """Something that is not proven, or a reader should know."""

    word: str
    text: str


@dataclass(slots=True)
class LogReport:
    """What is known of one log: entries below `covered` are what was signed, unless there are faults.

    `size` is the number behind the last entry that is here.
    """

    log: str
    entries: int = 0
    size: int = 0
    covered: int = 0
    checkpoints: int = 0
    anchored: bool = False
    last: Checkpoint | None = None
    faults: list[Fault] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    edge: RightEdge = field(default_factory=RightEdge)
    hashes: Mapping[int, bytes] = field(default_factory=dict)

    @property
    def first_bad(self) -> int | None:
        """Return the number of the first entry that is not what it was, None where none is known."""
        return min((fault.index for fault in self.faults if fault.index is not None), default=None)


def verify_log(copy: LogCopy, anchors: Sequence[Sealed], deployment: str, keys: Verifiers) -> LogReport:
    """Compare a log with its own checkpoints and those of the second place; never raises, whatever the copy holds.

    How the log ended is judged afterwards, by `judge_end`.
    """
    report = LogReport(copy.log, len(copy.entries), copy.first + len(copy.entries))
    report.faults += [Fault("unreadable", text, index) for index, text in copy.spoilt]
    report.hashes = _entries(copy, deployment, report)
    own = _trusted(copy.sealed, copy.log, deployment, keys, report)
    second = _trusted(anchors, copy.log, deployment, keys, report)
    report.checkpoints, report.anchored = len(own), bool(second)
    _sequence([one.checkpoint for one in own], [one.checkpoint for one in second], report)
    sizes = [0, *(one.checkpoint.size for one in own)]
    report.faults += [_strange(one) for one, size in zip(own, sizes, strict=False) if one.first != size][:1]
    _walk(own, second, copy.first, report)
    return report


def judge_end(report: LogReport, successor: Ended | None) -> None:
    """Say how the log ended, and compare that with what the log after it in its slot says, where there is one."""
    if successor is not None:
        _compare_end(report, successor)
    last, size, faults = report.last, report.size, report.faults
    if last is not None and last.kind is Kind.CLOSE and size > last.size:
        faults.append(Fault("entry", f"entry {last.size} stands behind the signed close", last.size))
    elif size > report.covered and last is not None and not faults:
        report.notes.append(Note("unsigned_tail", f"entries from {report.covered} on are under no checkpoint"))
    if last is None and (report.covered < size or not size):
        faults.append(Fault("unsigned", "no checkpoint of a trusted key is there", report.covered))
    elif last is not None and last.kind is not Kind.CLOSE and successor is None:
        report.notes.append(Note("not_closed", f"the log has no signed close; last heard of at {last.time}"))


def _compare_end(report: LogReport, ended: Ended) -> None:
    faults = report.faults
    if report.covered > ended.size:
        faults.append(
            Fault("entry", f"{report.covered} entries were signed, the next log found {ended.size}", ended.size)
        )
    elif report.size < ended.size:
        faults.append(Fault("entry", f"entry {report.size} is missing: the next log found {ended.size}", report.size))
    elif report.size > ended.size:
        faults.append(Fault("entry", f"entry {ended.size} stands behind the end that the next log names", ended.size))
    if ended.root is None or report.covered >= ended.size:
        return
    grown = _grown(report.edge, report.hashes, ended.size)
    if grown is None or grown.root() != ended.root:
        text = f"entries {report.covered} to {ended.size - 1} do not lead to the root that the next log holds"
        faults.append(Fault("entry", text, report.covered, exact=False, until=ended.size))
    else:
        report.covered, report.edge = ended.size, grown


def _entries(copy: LogCopy, deployment: str, report: LogReport) -> Mapping[int, bytes]:
    """Judge each entry by its place, and return the leaf hashes by place."""
    hashes: dict[int, bytes] = {}
    key = stream_key(deployment, copy.log)
    sound = True
    for place, entry in enumerate(copy.entries, copy.first):
        hashes[place] = leaf_hash(entry.body)
        wrong = _wrong(entry, place, copy.log, deployment, key) if sound else ""
        if wrong:
            sound = False  # behind an entry too many or too few all numbers are wrong: only the first tells something
            report.faults.append(Fault("entry", wrong, place))
    return hashes


def _wrong(entry: StoredEntry, place: int, log: str, deployment: str, key: str) -> str:
    if entry.index != place:
        return f"entry {entry.index} stands where entry {place} belongs"
    try:
        row = read_body(entry.body)
    except BodyError as error:
        return str(error)
    if (row.deployment, row.log, row.index) != (deployment, log, place):
        return "the body is that of another entry"
    if entry.fields is not None:
        names = differing(entry.fields, entry.body, key, f"{entry.ms}-{entry.index}")
        if names:
            return f"{', '.join(names)} differ from the body"
    return ""


def _trusted(found: Iterable[Sealed], log: str, deployment: str, keys: Verifiers, report: LogReport) -> list[Sealed]:
    trusted = []
    for sealed in found:
        try:
            checkpoint, _ = verify_checkpoint(sealed.checkpoint.note, keys)
        except NoteError as error:
            report.faults.append(Fault("checkpoint", f"checkpoint {sealed.checkpoint.number}: {error}"))
            continue
        if (checkpoint.deployment, checkpoint.log) != (deployment, log):
            report.faults.append(Fault("checkpoint", "a checkpoint of another log is among this one's"))
            continue
        trusted.append(sealed)
    return trusted


def _sequence(own: Sequence[Checkpoint], second: Sequence[Checkpoint], report: LogReport) -> None:
    """Check that no checkpoint is missing, twice, or where it cannot be, and note when nothing was heard."""
    faults = report.faults
    for number, one in enumerate(own):
        if one.number != number:
            faults.append(Fault("checkpoint", f"checkpoint {one.number} stands where checkpoint {number} belongs"))
            break
    by_number = {one.number: one for one in own}
    for one in second:
        if by_number.setdefault(one.number, one).text != one.text:
            faults.append(Fault("checkpoint", f"there are two checkpoints {one.number}: the log was forked"))
    only = min((one.number for one in second if one.number >= len(own)), default=None)
    if only is not None:
        faults.append(Fault("checkpoint", f"from checkpoint {only} on they are at the second place only"))
    ordered = [by_number[number] for number in sorted(by_number)]
    for before, after in pairwise(ordered):
        if after.size < before.size or after.time < before.time:
            faults.append(Fault("checkpoint", f"checkpoint {after.number} goes back behind the one before it"))
        if before.kind is Kind.CLOSE and after.number == before.number + 1:
            if after.kind is not Kind.OPEN or after.size != before.size:
                faults.append(Fault("checkpoint", f"checkpoint {after.number} follows a close and is no open"))
        elif after.time - before.time > SILENCE_MS:
            report.notes.append(Note("silent", f"nothing was signed from {before.time} to {after.time}"))
    if ordered and (ordered[0].number or ordered[0].kind is not Kind.OPEN):
        faults.append(Fault("checkpoint", "the first checkpoint is not there"))
    report.last = ordered[-1] if ordered else None


def _walk(own: Sequence[Sealed], second: Sequence[Sealed], first: int, report: LogReport) -> None:
    """Go from signed root to signed root, until one is reached by no way."""
    by_size: dict[int, list[Sealed]] = {}
    for sealed in (*own, *second):
        by_size.setdefault(sealed.checkpoint.size, []).append(sealed)
    edge, differs = RightEdge(), False
    for size, group in sorted(by_size.items()):
        places = range(edge.size, size)
        found = {place: report.hashes[place] for place in places if place in report.hashes}
        roots = {sealed.checkpoint.root for sealed in group}
        way, reached = _reach(edge, found, group) if len(roots) == 1 else ({}, None)
        if reached is None:
            text = f"entries {edge.size} to {size - 1} do not lead to the root that was signed at {size}"
            report.faults.append(Fault("entry", text, edge.size, exact=False, until=size))
            return
        bad = next((place for place in places if place >= first and found.get(place) != way[place]), None)
        if bad is not None and not differs:
            differs = True
            text = f"entry {bad} is missing" if bad not in found else f"entry {bad} is not the one that was signed"
            report.faults.append(Fault("entry", text, bad))
        edge = reached
        report.covered, report.edge = edge.size, edge
        report.faults += [_strange(sealed) for sealed in group if not _agrees(sealed, way)]


def _agrees(sealed: Sealed, way: Mapping[int, bytes]) -> bool:
    return all(way.get(place, one) == one for place, one in enumerate(sealed.leaves, sealed.first))


def _strange(sealed: Sealed) -> Fault:
    return Fault("checkpoint", f"the hashes beside checkpoint {sealed.checkpoint.number} are not those it added")


def _reach(
    edge: RightEdge, found: Mapping[int, bytes], group: Sequence[Sealed]
) -> tuple[Mapping[int, bytes], RightEdge | None]:
    """Return the leaf hashes that lead from `edge` to the root of `group`, and the tree over them; else None."""
    head = group[0].checkpoint
    for leaves in ((), *(sealed.leaves for sealed in group)):
        way = {**found, **dict(enumerate(leaves, head.size - len(leaves)))}
        grown = _grown(edge, way, head.size)
        if grown is not None and grown.root() == head.root:
            return way, grown
    return {}, None


def _grown(edge: RightEdge, hashes: Mapping[int, bytes], size: int) -> RightEdge | None:
    """Return the tree of `size` leaves over `edge`, None where a hash is missing."""
    if any(place not in hashes for place in range(edge.size, size)):
        return None
    grown = edge.copy()
    for place in range(edge.size, size):
        grown.append(hashes[place])
    return grown
