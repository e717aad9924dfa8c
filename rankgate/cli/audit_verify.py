"""`rankgate audit verify`: recompute the trail, and compare it with what was signed."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankgate.audit.text import dump, printable
from rankgate.cli.audit_source import FILE, PATH, Source, source_options

if TYPE_CHECKING:
    from rankgate.audit.copies import LogCopy
    from rankgate.audit.note import Verifier
    from rankgate.audit.proving import Report
    from rankgate.audit.verifying import LogReport

__all__ = ["verify"]

SETTLE_S = 3.0
KEY_FILE_BYTES = 65_536


@click.command()
@source_options
@click.option(
    "--key", "keys", multiple=True, required=True, metavar="VKEY|FILE", help="Verifier key, or a file with some."
)
@click.option("--anchor", "anchors", type=PATH, multiple=True, help="Records of a second place; repeatable.")
@click.option("--receipt", type=FILE, help="Check a proof of `rankgate audit show --proof` instead.")
@click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
def verify(
    source: Source,
    keys: tuple[str, ...],
    anchors: tuple[Path, ...],
    receipt: Path | None,
    output: str,
) -> None:
    """Prove that the trail is what was signed, or name the first entry that is not.

    Every log is recomputed and compared with its signed checkpoints: numbering, flat fields, roots, opening and
    closing. Nothing is believed but the verifier keys given, and those they handed over to. Needs no network with
    --from.

    Without --anchor nothing shows that a log was cut at a checkpoint or that a whole log is missing; the report says
    so.
    Exits 0 if everything is what was signed, 1 if something is not, 2 at wrong usage.
    """
    from rankgate.audit.proving import prove

    trusted = [verifier for key in keys for verifier in _verifiers(key)]
    if receipt is not None:
        _check(receipt, trusted)
        return
    deployments = {key.name for key in trusted}
    if len(deployments) != 1:
        raise click.UsageError("--key: give keys of one deployment")
    (deployment,) = deployments
    second = _anchors(anchors) if anchors else None
    report = prove(source.read(deployment), second, trusted)
    if source.online and not report.verified:
        # Entries and checkpoints come by different ways; what is on its way now has arrived by then.
        time.sleep(SETTLE_S)
        report = prove(source.read(deployment), second, trusted)
    verified = report.verified and not source.wrong
    if output == "json":
        click.echo(dump(_told(report, source.wrong, verified=verified)))
    else:
        for line in _table(report, source.wrong, verified=verified):
            click.echo(printable(line))
    click.get_current_context().exit(0 if verified else 1)


def _verifiers(key: str) -> list[Verifier]:
    """Return the key, or those in the file of that name, one a line; `#` begins a remark."""
    from rankgate.audit.note import Verifier

    lines = [key]
    path = Path(key)
    if len(key) < 4096 and path.is_file():
        with path.open("rb") as file:
            text = file.read(KEY_FILE_BYTES).decode("utf-8", "replace")
        lines = [line.split("#")[0].strip() for line in text.splitlines()]
    try:
        return [Verifier.parse(line) for line in lines if line]
    except ValueError as error:
        raise click.UsageError(f"--key: {error}, and no file with such") from None


def _anchors(paths: Iterable[Path]) -> dict[str, LogCopy]:
    from rankgate.audit.copies import LogCopy
    from rankgate.clients.copying import from_files

    second: dict[str, LogCopy] = {}
    for path in paths:
        try:
            copies, wrong = from_files(path)
        except OSError as error:
            raise click.ClickException(f"{path} cannot be read: {error.strerror}") from None
        for text in wrong:
            click.echo(f"second place: {printable(text)}", err=True)
        for log, copy in copies.items():
            second.setdefault(log, LogCopy(log)).sealed += copy.sealed
    return second


def _check(receipt: Path, trusted: list[Verifier]) -> None:
    from rankgate.audit.note import Verifiers
    from rankgate.audit.receipts import check_receipt

    try:
        value = json.loads(receipt.read_bytes())
        proven = check_receipt(value if isinstance(value, dict) else {}, Verifiers(trusted))
    except (OSError, ValueError, RecursionError) as error:
        text = "not a receipt" if isinstance(error, json.JSONDecodeError) else str(error)
        raise click.ClickException(f"not proven: {printable(text)}") from None
    for position in proven:
        click.echo(f"proven  {printable(position)}")


def _told(report: Report, wrong: list[str], *, verified: bool) -> dict[str, Any]:
    return {
        "verified": verified,
        "deployment": report.deployment,
        "not_proven": list(report.not_proven),
        "lines": wrong,
        "rotations": [{"key": str(one.key), "by": str(one.by), "time": one.time} for one in report.rotations],
        "logs": [
            {
                "log": log.log,
                "verified": not log.faults,
                "entries": log.entries,
                "covered": log.covered,
                "checkpoints": log.checkpoints,
                "anchored": log.anchored,
                "first_bad": log.first_bad,
                "faults": [_fault(one) for one in log.faults],
                "notes": [{"word": one.word, "text": one.text} for one in log.notes],
            }
            for log in report.logs
        ],
    }


def _fault(one: Any) -> dict[str, Any]:
    told = {"word": one.word, "text": one.text, "index": one.index, "exact": one.exact, "until": one.until}
    return {name: value for name, value in told.items() if value is not None}


def _table(report: Report, wrong: list[str], *, verified: bool) -> list[str]:
    width = max((len(log.log) for log in report.logs), default=3)
    lines = [f"{'LOG':<{width}}  {'ENTRIES':>8}  {'SIGNED':>8}  {'FIRST BAD':>9}  VERDICT"]
    for log in report.logs:
        bad = "" if log.first_bad is None else str(log.first_bad)
        verdict = "NOT VERIFIED" if log.faults else "verified"
        lines.append(f"{log.log:<{width}}  {log.entries:>8}  {log.covered:>8}  {bad:>9}  {verdict}")
        lines += [f"  {text}" for text in _remarks(log)]
    lines += [f"  key handed over: {one.key}" for one in report.rotations]
    lines += [f"  {text}" for text in wrong]
    if report.not_proven:
        what = {"tail": "tail", "logs": "set of logs"}
        lines.append(f"not proven: {' and '.join(what[one] for one in report.not_proven)}; give --anchor")
    lines.append("verified" if verified else "NOT VERIFIED" if report.logs else "NOT VERIFIED: there are no logs")
    return lines


def _remarks(log: LogReport) -> list[str]:
    faults = [f"{one.text}{'' if one.exact else ' (the first bad one is among them)'}" for one in log.faults]
    return faults + [f"{one.word}: {one.text}" for one in log.notes]
