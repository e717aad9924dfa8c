"""The console as it is run: keys made, settings checked, a real Redis, the certified provider, a port, an end."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from fakes.desk_store import make_ask
from fakes.journal import bodies, log_folders
from fakes.provider import log_in_at, running_provider
from fakes.valkey import Server
from fakes.valkey import running as valkey
from fakes.waiting import until

from rankgate.approvals import Caps, Opener, Preview, Sealer, State, VoteKeys, Voter, record_digest
from rankgate.cli import root
from rankgate.clients.approvals import ApprovalStore
from rankgate.console.journal import Journal
from rankgate.console.refusals import Refusal, RefusedError
from rankgate.console.settings import JournalSettings, load
from rankgate.errors import SettingsError
from rankgate.settings.environment import unknown_variables

AUDIENCE = "https://approvals.example"


@pytest.fixture(scope="module")
def redis() -> Iterator[Server]:
    with valkey() as server:
        yield server


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_settings(folder: Path, *, issuer: str, redis_url: str, port: int = 8090, **login: Any) -> Path:
    made = CliRunner().invoke(root, ["console", "keys", "--directory", str(folder / "keys")])
    assert made.exit_code == 0, made.output
    (folder / "secret").write_text("console-secret\n")
    extra = "".join(f"{name} = {json.dumps(value)}\n" for name, value in login.items())
    file = folder / "console.toml"
    file.write_text(f"""
public_url = "http://127.0.0.1:{port}"
vote_key_file = "{folder}/keys/vote-key.pem"
preview_key_file = "{folder}/keys/preview-key.txt"
listen = {{ port = {port} }}
state = {{ redis_url = "{redis_url}" }}
journal = {{ directory = "{folder}/journal" }}
roles = {{ view = ["viewers"], operate = ["operators"] }}

[login]
issuer = "{issuer}"
client_id = "console"
client_secret_file = "{folder}/secret"
cli_client_id = "rankgate-cli"
audience = "{AUDIENCE}"
insecure_http = true
{extra}""")
    return file


@asynccontextmanager
async def served(file: Path, port: int) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rankgate.cli", "console", "--config", str(file), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as probe, asyncio.timeout(30):
            while True:
                try:
                    if (await probe.get(f"http://127.0.0.1:{port}/readyz")).status_code == 200:
                        break
                except httpx.TransportError:
                    assert process.returncode is None, (await process.communicate())[1]
                await asyncio.sleep(0.05)
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


def journaled(folder: Path) -> list[str]:
    """Return the words of the console's journal as it lies on disk."""
    (log,) = log_folders(folder / "journal")
    ours = [body["unmapped"]["rankgate"] for body in bodies(log)]
    return [one["word"] for one in ours if one["what"] == "console"]


def gate_keys(folder: Path) -> VoteKeys:
    return VoteKeys([load_pem_public_key((folder / "keys" / "vote-key.pub.pem").read_bytes())])  # type: ignore[list-item]


@pytest.mark.npm
async def test_a_person_logs_in_votes_by_page_and_by_command_line_and_a_machine_does_neither(
    tmp_path: Path, redis: Server
) -> None:
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    async with running_provider(origin) as issuer:
        file = write_settings(tmp_path, issuer=issuer, redis_url=redis.url, port=port)
        store = ApprovalStore.connect(load(file).state, "default", 2_592_000)
        now_ms = 1000 * int(time.time())
        checked = CliRunner().invoke(root, ["console", "check", "--config", str(file)])
        assert checked.exit_code == 0, checked.output
        identity = (tmp_path / "keys" / "preview-key.txt").read_text()
        sealed = Sealer(Opener(identity).recipient).seal(Preview("who is <PERSON>?"))
        first, second = (make_ask(number, now_ms, preview=sealed) for number in (1, 2))
        second = make_ask(2, now_ms, preview=sealed, canonical_digest="f" * 64, use_digest="e" * 64)
        for ask in (first, second):
            await store.join(ask, "00", Caps(10, 100))
        async with served(file, port) as process, httpx.AsyncClient(trust_env=False) as browser:
            begun = await browser.get(f"{origin}/login", params={"next": f"/approvals/{first.id}"})
            back = await log_in_at(begun.headers["location"], "ada", browser)
            logged_in = await browser.get(back)
            assert (logged_in.status_code, logged_in.headers["location"]) == (303, f"/approvals/{first.id}")
            again = await browser.get(f"{origin}/login", params={"again": "1"})
            back = await log_in_at(again.headers["location"], "ada", browser)
            assert (await browser.get(back)).status_code == 303
            page = await browser.get(f"{origin}/approvals/{first.id}")
            assert page.status_code == 200
            assert "ada@acme.example" in page.text
            csrf = page.text.partition('name="csrf" value="')[2].partition('"')[0]
            form = {"csrf": csrf, "record": record_digest(first.encode()), "choice": "approve", "reason": "fine"}
            voted = await browser.post(f"{origin}/approvals/{first.id}/vote", data=form, headers={"origin": origin})
            assert voted.status_code == 303

            out = await browser.post(f"{origin}/logout", data={"csrf": csrf}, headers={"origin": origin})
            assert (await browser.get(out.headers["location"])).status_code == 200
            assert (await browser.get(f"{origin}/")).status_code == 401

            token = await device_token(origin, browser)
            async with httpx.AsyncClient(
                base_url=f"{origin}/api/v1", headers={"authorization": f"Bearer {token}"}, trust_env=False
            ) as api:
                assert (await api.get("/me")).json()["subject"] == "ada"
                async with api.stream("GET", "/events") as events:
                    lines = events.aiter_lines()
                    assert await anext(lines) == ": listening"
                    body = {"record": record_digest(second.encode()), "reason": "not today"}
                    denied = await api.post(f"/approvals/{second.id}/deny", json=body)
                    assert denied.json()["state"] == "denied"
                    kinds = []
                    async with asyncio.timeout(10):
                        async for line in lines:
                            if line.startswith("event: "):
                                kinds.append(line.removeprefix("event: "))
                            if "denied" in kinds:
                                break
            machine = await machine_token(issuer)
            refused = await browser.get(f"{origin}/api/v1/me", headers={"authorization": f"Bearer {machine}"})
            assert refused.json()["code"] == "no_person"
            authorized = {"authorization": f"Bearer {token}"}
            async with browser.stream("GET", f"{origin}/api/v1/events", headers=authorized) as events:
                process.send_signal(signal.SIGTERM)
                assert process.stderr is not None
                async with asyncio.timeout(8):
                    log = (await process.stderr.read()).decode()
                    assert await process.wait() == 0
                assert events.status_code == 200
        for secret in (token, machine, csrf, "console-secret", "<PERSON>"):
            assert secret not in log
        stored = await store.read(first.id)
        assert stored is not None
        assert stored.state is State.APPROVED
        vote = gate_keys(tmp_path).vote(stored.votes[0])
        assert vote is not None
        assert vote.voter == Voter(issuer, "ada", f"{issuer} ada", ("ada@acme.example", "ada"), ("approvers",))
        await store.close()
    words = journaled(tmp_path)
    assert words[:3] == ["started", "login", "login"]
    assert "logout" in words
    assert words.count("vote") == words.count("vote_outcome") == 2
    assert "preview_viewed" in words
    everything = b"".join(path.read_bytes() for path in (tmp_path / "journal").rglob("*.seg"))
    assert b"<PERSON>" not in everything
    assert b"eyJ" not in everything


async def device_token(origin: str, browser: httpx.AsyncClient) -> str:
    """Log in as the command line does (RFC 8628), with what the console says alone."""
    told = (await browser.get(f"{origin}/api/v1/openid")).json()
    found = (await browser.get(f"{told['issuer']}/.well-known/openid-configuration")).json()
    begun = await browser.post(
        found["device_authorization_endpoint"],
        data={"client_id": told["client_id"], "scope": "openid email groups", "resource": told["audience"]},
    )
    begun = begun.json()
    page = await browser.get(begun["verification_uri_complete"])
    xsrf = page.text.partition('name="xsrf" value="')[2].partition('"')[0]
    form = {"xsrf": xsrf, "user_code": begun["user_code"], "confirm": "yes"}
    url = begun["verification_uri"]
    answer = await browser.post(url, data=form)
    for _ in range(8):
        if not answer.is_redirect:
            break
        url = str(httpx.URL(url).join(answer.headers["location"]))
        answer = await browser.get(url)
        if "/interaction/" in url:
            answer = await browser.post(url, data={"login": "ada"})
    assert answer.status_code == 200, answer.text
    given = await browser.post(
        found["token_endpoint"],
        data={
            "grant_type": "urn:ietf:params:oauth:grant-type:device_code", "client_id": told["client_id"],
            "device_code": begun["device_code"], "resource": told["audience"],
        },
    )  # fmt: skip
    return str(given.json()["access_token"])


async def machine_token(issuer: str) -> str:
    form = {"grant_type": "client_credentials", "scope": "rerank", "resource": AUDIENCE}
    async with httpx.AsyncClient(auth=("search", "test"), trust_env=False) as client:
        return str((await client.post(f"{issuer}/token", data=form)).json()["access_token"])


async def test_a_full_journal_refuses_and_holds_nothing_of_what_it_refused(tmp_path: Path) -> None:
    journal = await Journal.open(JournalSettings(directory=tmp_path, cap_bytes=1_048_576), "default")
    await journal.write("vote", "ada", approval="apr-1", choice="approve")

    async def fill() -> None:
        for _ in range(2000):
            await journal.write("vote", "bob", approval="apr-1", reason="x" * 1000)

    with pytest.raises(RefusedError) as refusal:
        await fill()
    assert refusal.value.refusal is Refusal.JOURNAL_UNAVAILABLE
    assert not journal.ready
    with pytest.raises(RefusedError):
        await journal.write("vote", "cyd", approval="apr-1")
    await journal.close()
    (log,) = log_folders(tmp_path)
    entries = [body["unmapped"]["rankgate"] for body in bodies(log)]
    assert {"person": "ada", "approval": "apr-1", "choice": "approve"} in [entry.get("detail") for entry in entries]
    assert [entry["index"] for entry in entries] == list(range(len(entries)))
    assert "cyd" not in json.dumps(entries)


async def test_probes_and_metrics_have_a_port_of_their_own_where_one_is_set(tmp_path: Path, redis: Server) -> None:
    port, health = free_port(), free_port()
    file = write_settings(tmp_path, issuer="http://127.0.0.1:1", redis_url=redis.url, port=port)
    (tmp_path / "webhook").write_text(f"whsec_{'A' * 32}\n")
    hook = f'[webhook]\nurl = "http://127.0.0.1:1"\nsecret_file = "{tmp_path}/webhook"\ninsecure_http = true\n'
    file.write_text(f"{file.read_text()}\n{hook}[health]\nport = {health}\n")
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "rankgate.cli", "console", "--config", str(file), stderr=asyncio.subprocess.PIPE
    )
    try:
        async with httpx.AsyncClient(trust_env=False) as client, asyncio.timeout(30):
            while True:
                try:
                    live = await client.get(f"http://127.0.0.1:{health}/livez")
                    there = await client.get(f"http://127.0.0.1:{port}/livez")
                    break
                except httpx.TransportError:
                    assert process.returncode is None, (await process.communicate())[1]
                await asyncio.sleep(0.05)
            assert (live.status_code, there.status_code) == (200, 200)
            ready = await client.get(f"http://127.0.0.1:{health}/readyz")
            # Of an issuer that is out no keys are known; what else there is works.
            assert ready.status_code == 503
            assert ready.json()["parts"] == {"journal": True, "login": False, "store": True}
            page = (await client.get(f"http://127.0.0.1:{health}/metrics")).text
            assert 'rankgate_build_info{role="console",' in page
            assert 'rankgate_ready{part="login"} 0.0' in page
            assert 'rankgate_webhook_messages_total{outcome="failed"} 0.0' in page
            unknown = await client.get(f"http://127.0.0.1:{port}/metrics", headers={"host": f"127.0.0.1:{port}"})
            assert "rankgate_ready" not in unknown.text
            process.send_signal(signal.SIGTERM)
            assert await process.wait() == 0
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


def test_keys_are_made_once_and_private(tmp_path: Path) -> None:
    run = CliRunner()
    made = run.invoke(root, ["console", "keys", "--directory", str(tmp_path / "k")])
    assert made.exit_code == 0
    assert [line.partition(" = ")[0] for line in made.stdout.splitlines()] == [
        "[approvals]", "vote_keys", "preview_recipient",
    ]  # fmt: skip
    assert "AGE-SECRET" not in made.output
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "k").iterdir()}
    assert (modes["vote-key.pem"], modes["preview-key.txt"]) == (0o600, 0o600)
    before = (tmp_path / "k" / "vote-key.pem").read_bytes()
    again = run.invoke(root, ["console", "keys", "--directory", str(tmp_path / "k")])
    assert again.exit_code == 1
    assert "never replaced" in again.output
    assert (tmp_path / "k" / "vote-key.pem").read_bytes() == before


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ({"public_url": "http://console.example"}, "public_url"),
        ({"public_url": "https://console.example/path"}, "public_url"),
        ({"listen": {"address": "0.0.0.0"}}, "listen.address"),
        ({"listen": {"key_file": "k"}}, "listen.certificate_file"),
        ({"login": {"audience": "console"}}, "login.audience"),
        ({"login": {"algorithms": ["HS256"]}}, "login.algorithms"),
        ({"login": {"issuer": "http://people.example"}}, "login.issuer"),
        ({"login": {"scopes": ["email"]}}, "login.scopes"),
        ({"state": {}}, "state.redis_url"),
        ({"webhook": {"events": ["opened"]}}, "webhook.events"),
        ({"webhook": {"url": "https://hooks.example"}}, "webhook.secret_file"),
        ({"session_s": 28_801}, "session_s"),
        ({"unknown": 1}, "unknown"),
    ],
)
def test_settings_that_can_never_work_are_refused_by_name(change: dict[str, Any], word: str) -> None:
    usual: dict[str, Any] = {
        "public_url": "https://console.example", "vote_key_file": "k", "state": {"redis_url": "unix:///r"},
        "journal": {"directory": "j"},
        "login": {"issuer": "https://people.example", "client_id": "console", "audience": "approvals"},
    }  # fmt: skip
    merged = usual | {name: usual["login"] | value if name == "login" else value for name, value in change.items()}
    with pytest.raises(SettingsError, match=word):
        load(None, **merged)


def test_a_variable_of_the_console_is_checked_and_is_no_fault_of_a_gate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKGATE_CONSOLE_PUBLIK_URL", "x")
    with pytest.raises(SettingsError, match="PUBLIK_URL"):
        load(None)
    assert unknown_variables({"RANKGATE_CONSOLE_PUBLIC_URL": "x"}, ()) == []


def test_a_missing_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rankgate.cli.console.EXTRA", ("no_such_module",))
    answer = CliRunner().invoke(root, ["console", "--config", "x"])
    assert answer.exit_code == 1
    assert "rankgate[console]" in answer.output


def test_a_port_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        file = write_settings(tmp_path, issuer="http://127.0.0.1:1", redis_url="redis://127.0.0.1:1", port=port)
        answer = CliRunner().invoke(root, ["console", "--config", str(file)])
    assert answer.exit_code == 1
    assert f"listen.port {port}" in answer.output


async def test_work_that_a_fault_ended_is_told_and_work_that_was_ended_is_not() -> None:
    from contextlib import AsyncExitStack

    from structlog.testing import capture_logs

    from rankgate.console.serving import _beside

    async def faulty() -> None:
        raise ValueError("a secret")

    async def steady() -> None:
        await asyncio.Event().wait()

    with capture_logs() as logs:
        async with AsyncExitStack() as stack:
            _beside(stack, "faulty", faulty())
            _beside(stack, "steady", steady())
            await until(lambda: bool(logs))
    assert [(entry["event"], entry["task"], entry["error"]) for entry in logs] == [
        ("task_failed", "faulty", "ValueError")
    ]
    assert "secret" not in str(logs)
