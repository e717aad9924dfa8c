"""`rankgate policy`: check, test, try and replay policies with the embedded engine; needs no OPA."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from rankgate.cli.trail_options import place, trail_options

if TYPE_CHECKING:
    from rankgate.errors import GateError
    from rankgate.policy import Ruling

__all__ = ["policy"]

FOLDER = click.Path(path_type=Path, exists=True, file_okay=False)
OUTPUT = click.Choice(["text", "json"])


@click.group()
def policy() -> None:
    """Check, test, evaluate and replay policies."""


@policy.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--path", default="rankgate/decision", show_default=True, help="Path of the decision below `data`.")
@click.option("--opa", is_flag=True, help="For policies that OPA decides by: report only what cannot be asked again.")
def check(folder: Path, path: str, opa: bool) -> None:
    """Check that the policies in DIR load and decide, as at the start of a gate.

    The sample question (`rankgate policy sample`) is put to them too, and the ruling read as the gate reads it.
    Exits 0 if a gate would take them, 1 otherwise, with one line a fault. For typos in paths of the input run
    `opa check -s` with the shipped schemas as well.

    With --opa nothing is evaluated: OPA has functions that the embedded engine lacks. What is reported are those whose
    answer is not in the question, as time.now_ns or http.send: no gate refuses them in OPA, but a decision that used
    one cannot be asked again.
    """
    from rankgate.clients.policy_files import read_policies
    from rankgate.clients.rego import load_decision, not_for_opa
    from rankgate.errors import GateError, Reason, SettingsError
    from rankgate.policy.sample import sample_question

    files = read_policies(folder)
    if opa:
        if faults := not_for_opa(files):
            raise SettingsError("\n".join(faults))
        click.echo(f"{folder}: ok for OPA, {len(files.modules)} modules decide by the question alone")
        return
    engine, rule = load_decision(files, path)
    try:
        _ruling(engine, rule, sample_question())
    except GateError as error:
        # A policy without a default leaves questions open, which is denied and no mistake.
        if error.reason is not Reason.POLICY_UNDEFINED:
            raise click.ClickException(f"{rule}, asked the sample question: {_why(error)}") from None
    click.echo(f"{folder}: ok, {len(files.modules)} modules, {len(files.tests)} test files, {files.revision}")


@policy.command()
@click.argument("folder", metavar="DIR", type=FOLDER)
@click.option("--run", "pattern", metavar="REGEX", help="Run only tests whose name matches.")
@click.option("-o", "--output", type=OUTPUT, default="text", show_default=True, help="What to print.")
def test(folder: Path, pattern: str | None, output: str) -> None:
    """Run the test_ rules of the _test.rego files in DIR; those named todo_test_ are skipped.

    Exits 0 if every test passed, 1 if one failed, could not be evaluated, or there was none.
    """
    from rankgate.cli.policy_tests import SKIP, passed, run, show

    results = run(folder, _regex(pattern))
    if output == "json":
        click.echo(json.dumps([result.as_json() for result in results], indent=2))
    else:
        click.echo(show(results))
    if not passed(results):
        what = "no test was found" if all(result.outcome == SKIP for result in results) else "tests failed"
        raise click.ClickException(what)


@policy.command("eval")
@click.option(
    "--input", "question", type=click.File("rb"), required=True, help="Question (JSON), - for standard input."
)
@click.option("--policy", "folder", type=FOLDER, help="Folder of the policy.  [default: the shipped policy]")
@click.option("--path", default="rankgate/decision", show_default=True, help="Path of the decision below `data`.")
@click.option("-o", "--output", type=OUTPUT, default="text", show_default=True, help="What to print.")
def evaluate(question: Any, folder: Path | None, path: str, output: str) -> None:
    """Put one question to a policy and print the ruling as the gate would read it.

    Exits 0 for every valid ruling, denials too; 1 where the gate would answer with an error.
    """
    import dataclasses

    from rankgate.clients.policy_files import read_policies
    from rankgate.clients.rego import load_decision
    from rankgate.errors import GateError
    from rankgate.resources import policies

    asked = _question(question.read())
    engine, rule = load_decision(read_policies(folder or policies()), path)
    try:
        ruling = _ruling(engine, rule, asked)
    except GateError as error:
        raise click.ClickException(_why(error)) from None
    shown = dataclasses.asdict(ruling)
    if output == "json":
        click.echo(json.dumps(shown, indent=2))
        return
    click.echo("allowed" if ruling.allowed else f"denied ({ruling.status})")
    plain = dataclasses.asdict(type(ruling)(allowed=ruling.allowed))
    for name, value in shown.items():
        if name not in {"allowed", "status"} and value != plain[name]:
            click.echo(f"  {name:<14} {json.dumps(value, ensure_ascii=False)}")


@policy.command()
@click.option("--policy", "folder", type=FOLDER, required=True, help="Folder of the policy to ask.")
@click.option("--path", help="Path of the decision below `data`; without it that of --config, or rankgate/decision.")
@click.option("--since", help="From when on: a duration like 7d before now, or an RFC 3339 time.")
@click.option("--until", help="Until when: the same.")
@click.option(
    "--from", "export", type=click.File("rb"), help="Read this export of `rankgate audit tail -o json`, - for stdin."
)
@trail_options
@click.option("--route", help="Only decisions of this route.")
@click.option("--inexact", is_flag=True, help="Ask also where masking changed the question; told apart.")
@click.option(
    "-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True, help="What to print."
)
@click.option("--fail-on-change", is_flag=True, help="Exit 3 if a decision would be another.")
@click.pass_context
def replay(
    ctx: click.Context,
    folder: Path,
    path: str | None,
    since: str | None,
    until: str | None,
    export: Any,
    file: Path | None,
    url: str | None,
    redis_user: str | None,
    redis_password_file: Path | None,
    redis_ca_file: Path | None,
    deployment: str | None,
    route: str | None,
    inexact: bool,
    output: str,
    fail_on_change: bool,
) -> None:
    """Ask recorded questions again under the policy in DIR, and tell which decisions would be others.

    Questions come from an export (--from) or from Redis. What was recorded is compared with what the policy rules
    now: verdict, status, reasons, risk, approval, masks by name, dropped documents and other terms; not what it writes
    into headers, bodies or metadata. What cannot be asked again is counted by why: docs/policies.md.

    Exits 0 if all was asked, 1 if the policy or the trail cannot be read or an event does not agree with its body, 3
    with --fail-on-change if a decision would be another.
    """
    from rankgate.cli.policy_replay import Replay, Wanted
    from rankgate.cli.replay_source import asked_again, moments
    from rankgate.clients.policy_files import read_policies
    from rankgate.clients.rego import load_decision
    from rankgate.settings import load

    settings = None if file is None else load(file)
    if export is not None and url and ctx.get_parameter_source("url") is click.core.ParameterSource.COMMANDLINE:
        raise click.UsageError("--from and --redis exclude each other")
    first, last = moments(since, until)
    files = read_policies(folder)
    engine, rule = load_decision(files, path or (settings.policy.path if settings else "rankgate/decision"))
    run = Replay(
        engine,
        rule,
        files.revision,
        settings.credentials.header if settings else "authorization",
        # An export is of whatever it is of, unless one deployment is asked for.
        Wanted(first, last, deployment if export is not None else None, route),
        ask_inexact=inexact,
    )
    try:
        if export is not None:
            asked_again(run, export)
        else:
            asked_again(run, place(file, url, redis_user, redis_password_file, redis_ca_file, deployment))
    except KeyboardInterrupt:
        # Half of a comparison reads like a whole one: nothing is printed.
        ctx.exit(130)
    click.echo(json.dumps(run.as_json(), indent=2) if output == "json" else run.as_text())
    if run.unreadable:
        raise click.ClickException(f"{run.unreadable} entries are no events or do not agree with their body")
    if fail_on_change and run.changed:
        ctx.exit(3)


@policy.command()
def sample() -> None:
    """Print a sample question, to start from with `rankgate policy eval --input -`."""
    from rankgate.policy.sample import sample_question

    click.echo(json.dumps(sample_question(), indent=2))


def _ruling(engine: Any, rule: str, question: dict[str, Any]) -> Ruling:
    """Return what `rule` rules on `question`, read as the gate reads it; raises GateError."""
    from rankgate.clients.rego import evaluate as ask
    from rankgate.policy import encode_question, parse_ruling

    answer = ask(engine, rule, encode_question(question))
    count = question.get("rerank", {}).get("document_count", 0)
    return parse_ruling(answer, document_count=count, credential_header="authorization")


def _why(error: GateError) -> str:
    return ": ".join(dict.fromkeys((error.reason.value, str(error))))


def _question(raw: bytes) -> dict[str, Any]:
    try:
        question = json.loads(raw)
    except ValueError as error:
        raise click.ClickException(f"the question is not JSON: {error}") from None
    rerank = question.get("rerank", {}) if isinstance(question, dict) else None
    if not isinstance(rerank, dict) or type(rerank.get("document_count", 0)) is not int:
        raise click.ClickException("the question must be an object as `rankgate policy sample` prints one")
    return dict(question)


def _regex(pattern: str | None) -> Any:
    import re

    try:
        return re.compile(pattern or "")
    except re.error as error:
        raise click.BadParameter(f"not a regular expression: {error}", param_hint="--run") from None
