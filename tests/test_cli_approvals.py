"""`rankgate approvals` against a small real console: what is printed, what is sent, how it exits."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.console_api import TOKEN, ConsoleApi, approval
from fakes.device_issuer import DeviceIssuer, unsigned_jwt
from fakes.http_server import serving

from rankgate.cli import root

ID = approval()["id"]
WAIT_S = 20.0


@pytest.fixture
def console(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[ConsoleApi]:
    api = ConsoleApi(approval(1), approval(2))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    monkeypatch.setenv("RANKGATE_CONSOLE_TOKEN", TOKEN)
    with serving(api):
        monkeypatch.setenv("RANKGATE_CONSOLE", api.url)
        yield api
        api.drop_streams = True


def run(*arguments: str, code: int = 0) -> Result:
    told = CliRunner().invoke(root, ["approvals", *arguments], prog_name="rankgate")
    assert told.exit_code == code, told.output
    assert TOKEN not in told.output and "Traceback" not in told.output
    return told


def lines(told: Result) -> list[dict[str, Any]]:
    return [json.loads(line) for line in told.stdout.splitlines()]


def at_a_terminal(*arguments: str, typed: str) -> tuple[int, str, str]:
    """Run the command on a pseudo-terminal; return its exit code, its stdout (a pipe) and what the terminal showed."""
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "rankgate.cli", "approvals", *arguments],
        stdin=theirs, stdout=subprocess.PIPE, stderr=theirs, env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    os.close(theirs)
    os.write(ours, typed.encode())
    shown = bytearray()

    def read() -> None:
        try:
            while part := os.read(ours, 65_536):
                shown.extend(part)
        except OSError:  # the other end is closed
            pass

    reader = threading.Thread(target=read)
    reader.start()
    out, _ = process.communicate(timeout=WAIT_S)
    reader.join(WAIT_S)
    os.close(ours)
    return process.returncode, out.decode(), shown.decode()


class TestList:
    def test_what_waits_is_a_row_each_newest_first(self, console: ConsoleApi) -> None:
        heading, newest, oldest = run("list").stdout.splitlines()
        assert heading.split() == [
            "ID", "STATE", "OPENED", "EXPIRES", "SUBJECT", "TENANT", "ROUTE", "DOCS", "FOUND", "RISK", "NEEDED",
        ]  # fmt: skip
        assert newest.split()[:2] == [approval(2)["id"], "pending"]
        assert oldest.split()[0] == ID
        assert oldest.split()[6:] == ["search", "acme", "rerank", "3", "3", "high", "1"]

    def test_json_is_what_the_api_gives_one_object_a_line(self, console: ConsoleApi) -> None:
        assert lines(run("list", "-o", "json")) == [approval(number, preview=None) for number in (2, 1)]

    def test_a_state_selects_and_nothing_to_list_is_said_on_stderr(self, console: ConsoleApi) -> None:
        console.approvals[ID]["state"] = "denied"
        assert [item["id"] for item in lines(run("list", "--state", "denied", "-o", "json"))] == [ID]
        told = run("list", "--state", "expired")
        assert (told.stdout, told.stderr) == ("", "none\n")

    def test_more_than_a_page_is_listed_without_a_gap_or_a_repetition(self, console: ConsoleApi) -> None:
        console.approvals = {item["id"]: item for item in map(approval, range(1, 231))}
        found = [item["id"] for item in lines(run("list", "-o", "json", "--limit", "1000"))]
        assert found == sorted(console.approvals, reverse=True)
        assert len(lines(run("list", "-o", "json", "--limit", "120", "--before", approval(200)["id"]))) == 120


class TestShow:
    def test_it_tells_who_asks_what_was_found_what_will_be_done_and_the_preview(self, console: ConsoleApi) -> None:
        shown = run("show", ID).stdout
        for text in (
            "search of acme (https://issuer.example)", "cohere.v2 /v2/rerank on cohere", "rerank-v3.5",
            "3, 420 characters", "2 EMAIL_ADDRESS, 1 IBAN_CODE", "bank data in the query",
            "drop 1 (1), rank 2; lend credential cohere", "1 of approvers, 1 more needed", "dec-1",
            "who owns <IBAN_CODE>?", "document 0", "a <EMAIL_ADDRESS>",
        ):  # fmt: skip
            assert text in shown
        assert all(line == line.rstrip() and len(line) < 120 for line in shown.splitlines())

    def test_nothing_in_it_commands_a_terminal_or_is_taken_for_markup(self, console: ConsoleApi) -> None:
        evil = "\x1b]0;owned\x07\x9b2J[red]x[/red] :smile: \u202e\r"
        console.approvals[ID] |= {
            "model": evil, "reasons": [evil], "note": evil, "state": evil, "opened": evil, "risk": evil,
            "caller": {"issuer": evil, "subject": evil, "tenant": evil}, "findings": {evil: 1},
            "votes": [{"person": evil, "choice": evil, "reason": evil, "time": evil}],
            "preview": {"query": f"a\n{evil}", "instruction": evil, "documents": [[0, evil]], "cut": True},
        }  # fmt: skip
        for arguments in (("show", ID), ("show", ID, "-o", "json"), ("list", "--state", "all")):
            shown = run(*arguments).output
            assert not set("\x1b\x07\x9b\u202e\r") & set(shown)
        assert "\\u001b]0;owned\\u0007\\u009b2J[red]x[/red] :smile: \\u202e\\u000d" in run("show", ID).stdout

    def test_what_is_not_there_is_exit_4(self, console: ConsoleApi) -> None:
        assert run("show", "apr-none", code=4).stderr == (
            "Error: There is no such thing here, or it is not yours to see.\n"
        )

    @pytest.mark.parametrize("identity", ["..", ".", "../me", "a/../../me", "?x", "%2e%2e"])
    def test_an_id_is_one_segment_of_the_path_whatever_it_says(self, console: ConsoleApi, identity: str) -> None:
        run("show", identity, code=4)
        assert [path for _, path, _, _ in console.requests if path == "/me"] == []


class TestDeciding:
    def test_approving_shows_what_is_approved_and_posts_the_record_that_was_shown(self, console: ConsoleApi) -> None:
        told = run("approve", ID, "--reason", "known client", "--use-within", "10m", "--yes")
        assert console.posted == [
            (f"/approvals/{ID}/approve", {"record": "record-1", "reason": "known client", "use_within_s": 600})
        ]
        assert "who owns <IBAN_CODE>?" in told.stderr
        assert told.stdout == f"{ID}  approved\n"

    def test_without_a_terminal_nothing_is_approved_that_was_not_said_to_be(self, console: ConsoleApi) -> None:
        assert "give --yes" in run("approve", ID, "--reason", "x", code=2).stderr
        assert console.requests == []

    @pytest.mark.parametrize("command", [("approve", ID, "--yes"), ("deny", ID), ("cancel", ID), ("revoke", "ada"),
                                         ("reviews", "close", ID)])  # fmt: skip
    @pytest.mark.parametrize("reason", [(), ("--reason", " "), ("--reason", "x" * 1001)])
    def test_without_a_reason_nothing_is_done(
        self, console: ConsoleApi, command: tuple[str, ...], reason: tuple[str, ...]
    ) -> None:
        assert "--reason" in run(*command, *reason, code=2).stderr
        assert console.requests == []

    def test_what_changed_after_it_was_shown_is_refused(self, console: ConsoleApi) -> None:
        real = console._one

        def changed(exchange: Any, person: str, item: dict[str, Any], what: str, body: Any) -> None:
            if what == "approve":
                item["record"] = "record-9"
            real(exchange, person, item, what, body)

        console._one = changed  # type: ignore[method-assign]
        assert "not what you were shown" in run("approve", ID, "--reason", "x", "--yes", code=1).stderr
        assert console.approvals[ID]["state"] == "pending"

    def test_whoever_may_not_vote_is_told_why_and_posts_nothing(self, console: ConsoleApi) -> None:
        console.approvals[ID]["objection"] = "owner"
        assert "you own the machine" in run("approve", ID, "--reason", "x", "--yes", code=1).stderr
        assert console.posted == []

    def test_one_of_several_that_fails_does_not_keep_the_others(self, console: ConsoleApi) -> None:
        told = run("approve", ID, "apr-none", approval(2)["id"], "--reason", "x", "--yes", "-o", "json", code=4)
        assert [(item["id"], item["state"]) for item in lines(told)] == [
            (ID, "approved"), (approval(2)["id"], "approved"),
        ]  # fmt: skip
        assert "apr-none: There is no such thing" in told.stderr

    def test_denying_cancelling_and_withdrawing_say_what_became_of_it(self, console: ConsoleApi) -> None:
        second = approval(2)["id"]
        assert run("deny", ID, "--reason", "no").stdout == f"{ID}  denied\n"
        assert run("approve", second, "--reason", "yes", "--yes").stdout == f"{second}  approved\n"
        assert run("withdraw", second).stdout == f"{second}  pending, 1 more needed\n"
        assert run("cancel", second, "--reason", "old").stdout == f"{second}  cancelled\n"
        assert run("cancel", second, "--reason", "old", code=1).stderr.endswith("nothing can be changed any more.\n")

    def test_revoking_names_the_person(self, console: ConsoleApi) -> None:
        told = run("revoke", "eve@acme.example", "--reason", "left")
        assert told.stdout == "revoked the votes of eve@acme.example; open approvals that changed: 1\n"
        assert console.posted == [("/revocations", {"person": "eve@acme.example", "reason": "left"})]

    def test_reviews_are_listed_and_closed(self, console: ConsoleApi) -> None:
        console.reviews = [approval(7, reason="pager was down")]
        assert "pager was down" in run("reviews", "list").stdout
        assert run("reviews", "list", "--state", "closed").stderr == "no review is closed\n"
        assert run("reviews", "close", approval(7)["id"], "--reason", "seen").stdout.endswith("closed\n")

    def test_a_person_at_a_terminal_is_shown_it_and_asked(self, console: ConsoleApi) -> None:
        code, out, shown = at_a_terminal("approve", ID, typed="y\nknown client\n")
        assert (code, out) == (0, f"{ID}  approved\n")
        assert shown.index("who owns <IBAN_CODE>?") < shown.index(f"Approve {ID}?") < shown.index("Reason")
        assert console.posted[0][1]["reason"] == "known client"

    def test_a_person_who_says_no_approves_nothing(self, console: ConsoleApi) -> None:
        code, out, shown = at_a_terminal("approve", ID, "--reason", "x", typed="n\n")
        assert (code, out) == (1, "")
        assert "left as it is" in shown
        assert console.posted == []

    def test_ctrl_c_at_the_question_is_130_and_approves_nothing(self, console: ConsoleApi) -> None:
        code, out, _ = at_a_terminal("approve", ID, "--reason", "x", typed="\x04")
        assert (code, out, console.posted) == (130, "", [])


class TestWaiting:
    def wait(self, console: ConsoleApi, state: str, *arguments: str, code: int) -> Result:
        def decide() -> None:
            assert console.looked_at.wait(WAIT_S)
            console.tell("voted", approval(2)["id"])
            console.happen(ID, state)

        person = threading.Thread(target=decide)
        person.start()
        try:
            return run(*arguments, code=code)
        finally:
            person.join()

    @pytest.mark.parametrize(
        ("state", "code"), [("approved", 0), ("consumed", 0), ("denied", 3), ("expired", 3), ("cancelled", 3)]
    )
    def test_the_exit_code_says_how_it_was_decided(self, console: ConsoleApi, state: str, code: int) -> None:
        assert self.wait(console, state, "wait", ID, code=code).stdout.split()[:2] == [ID, state]

    def test_what_is_decided_already_is_not_waited_for(self, console: ConsoleApi) -> None:
        console.approvals[ID]["state"] = "denied"
        assert json.loads(run("show", ID, "--wait", "-o", "json", code=3).stdout)["state"] == "denied"

    def test_it_is_read_when_something_happens_to_it_and_not_over_and_over(self, console: ConsoleApi) -> None:
        self.wait(console, "approved", "show", ID, "--wait", code=0)
        assert len([path for _, path, _, _ in console.requests if path == f"/approvals/{ID}"]) == 2

    def test_nothing_decided_in_time_is_124(self, console: ConsoleApi) -> None:
        assert run("wait", ID, "--timeout", "1s", code=124).stderr == "Error: nothing was decided in time\n"

    def test_waiting_for_what_is_not_there_is_4(self, console: ConsoleApi) -> None:
        run("wait", "apr-none", code=4)

    def test_a_console_that_was_never_there_is_not_waited_for(
        self, console: ConsoleApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("RANKGATE_CONSOLE", "http://127.0.0.1:1")
        assert "cannot be reached" in run("wait", ID, code=1).stderr


class TestWhereTheTokenGoes:
    @pytest.mark.parametrize(
        "url",
        ["http://console.example", "ftp://127.0.0.1", "https://ada:x@console.example", "console", "https://c/?a=b"],
    )
    def test_an_address_that_no_token_may_go_to_is_refused(self, console: ConsoleApi, url: str) -> None:
        run("list", "--console", url, code=1)
        assert console.requests == []

    def test_a_redirect_is_not_followed(self, console: ConsoleApi, monkeypatch: pytest.MonkeyPatch) -> None:
        class Elsewhere:
            url = ""

            def answer(self, exchange: Any) -> None:
                exchange.send(b"", 307, {"location": f"{console.url}{exchange.path}"})

        with serving(elsewhere := Elsewhere()):
            for arguments in (("list",), ("wait", ID)):
                assert "redirects" in run(*arguments, "--console", elsewhere.url, code=1).stderr
        assert console.requests == []

    def test_a_token_of_the_environment_needs_to_be_told_for_whom(
        self, console: ConsoleApi, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("RANKGATE_CONSOLE")
        assert "say with --console" in run("list", code=2).stderr

    def test_a_refused_token_is_exit_5(self, console: ConsoleApi) -> None:
        console.tokens.clear()
        assert run("list", code=5).stderr == "Error: Log in first.\n"

    def test_a_login_that_ends_on_the_way_ends_the_command(self, console: ConsoleApi) -> None:
        console.tokens.clear()
        run("approve", ID, approval(2)["id"], "--reason", "x", "--yes", code=5)
        assert len(console.requests) == 1

    def test_a_token_that_is_none_is_not_sent(self, console: ConsoleApi, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("RANKGATE_CONSOLE_TOKEN", "two words")
        assert "two words" not in run("list", code=5).output
        assert console.requests == []

    def test_a_page_of_another_server_is_no_answer(self, console: ConsoleApi) -> None:
        class Page:
            url = ""

            def answer(self, exchange: Any) -> None:
                exchange.send(b"<html>", 200, {"content-type": "text/html"})

        with serving(page := Page()):
            assert "is the address right?" in run("list", "--console", page.url, code=1).stderr

    def test_a_text_of_the_console_commands_no_terminal(self, console: ConsoleApi) -> None:
        class Evil:
            url = ""

            def answer(self, exchange: Any) -> None:
                exchange.json({"code": "x", "detail": "\x1b[2Jboo" + "x" * 10_000}, 409, "application/problem+json")

        with serving(evil := Evil()):
            shown = run("list", "--console", evil.url, code=1).stderr
        assert shown.startswith("Error: \\u001b[2Jboo")
        assert len(shown) < 600


class TestLogin:
    @pytest.fixture
    def issuer(self, console: ConsoleApi, monkeypatch: pytest.MonkeyPatch) -> Iterator[DeviceIssuer]:
        monkeypatch.delenv("RANKGATE_CONSOLE_TOKEN")
        app = DeviceIssuer()
        with serving(app):
            console.openid = {
                "issuer": app.url, "client_id": "rankgate-cli", "audience": "console-api", "scopes": ["openid"],
            }  # fmt: skip
            app.token = token_of(app.url)
            console.tokens = {app.token: "ada"}
            yield app

    def test_a_login_prints_page_and_code_and_is_used_from_then_on(
        self, console: ConsoleApi, issuer: DeviceIssuer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        told = run("login")
        assert f"{issuer.url}/activate" in told.stderr and "WDJB-MJHT" in told.stderr
        assert told.stderr.endswith("Logged in as ada, for 60 min.\n")
        assert told.stdout == ""
        kept = (tmp_path / "rankgate" / "console-token").read_text()
        assert issuer.token not in told.output and "refresh-me" not in kept
        monkeypatch.delenv("RANKGATE_CONSOLE")
        assert len(run("list").stdout.splitlines()) == 3

    def test_the_token_is_sent_to_the_console_it_was_obtained_for_and_to_no_other(
        self, console: ConsoleApi, issuer: DeviceIssuer
    ) -> None:
        run("login")
        with serving(other := ConsoleApi()):
            told = run("list", "--console", other.url, code=5)
            assert f"not to {other.url}" in told.stderr
            assert other.requests == []

    def test_whom_the_console_does_not_take_for_a_person_is_not_logged_in(
        self, console: ConsoleApi, issuer: DeviceIssuer, tmp_path: Path
    ) -> None:
        console.tokens.clear()
        run("login", code=5)
        assert not (tmp_path / "rankgate" / "console-token").exists()

    def test_a_console_that_names_another_issuer_than_before_is_refused_until_logged_out(
        self, console: ConsoleApi, issuer: DeviceIssuer
    ) -> None:
        run("login")
        with serving(other := DeviceIssuer()):
            console.openid = {**console.openid, "issuer": other.url}
            assert "another issuer or audience than before" in run("login", code=5).stderr
            assert other.forms == []
            assert run("logout").stderr == "Logged out.\n"
            other.token = token_of(other.url)
            console.tokens = {other.token: "ada"}
            run("login")

    @pytest.mark.parametrize("pin", [("--issuer", "https://issuer.example"), ("--audience", "another")])
    def test_a_pinned_issuer_or_audience_is_the_only_one(
        self, console: ConsoleApi, issuer: DeviceIssuer, pin: tuple[str, str]
    ) -> None:
        run("login", *pin, code=5)
        assert issuer.forms == []

    def test_an_issuer_that_is_not_https_is_refused(self, console: ConsoleApi, issuer: DeviceIssuer) -> None:
        console.openid = {**console.openid, "issuer": "http://issuer.example"}
        assert "must be an https:// address" in run("login", code=1).stderr

    def test_a_token_file_that_others_can_read_is_not_used(
        self, console: ConsoleApi, issuer: DeviceIssuer, tmp_path: Path
    ) -> None:
        run("login")
        (tmp_path / "rankgate" / "console-token").chmod(0o644)
        before = len(console.requests)
        assert "may be read or written by others" in run("list", code=5).stderr
        assert len(console.requests) == before

    def test_after_logout_nobody_is_logged_in(self, console: ConsoleApi, issuer: DeviceIssuer) -> None:
        run("login")
        run("logout")
        assert "not signed in" in run("list", code=5).stderr
        assert run("logout").stderr == "You were not logged in.\n"


def test_the_token_is_in_no_process_argument(console: ConsoleApi) -> None:
    told = CliRunner().invoke(root, ["approvals", "list", "--help"], prog_name="rankgate")
    assert "--token" not in told.output


def test_the_exit_codes_are_in_every_help() -> None:
    for command in ("", "list", "show", "wait", "approve", "deny", "withdraw", "cancel", "revoke", "login", "reviews"):
        told = " ".join(run(*command.split(), "--help").output.split())
        assert "124 nothing was decided in time, 130 interrupted" in told


def token_of(issuer: str) -> str:
    return unsigned_jwt({"iss": issuer, "aud": "console-api"})
