"""docs/approvals.md is executed: its policy is tested, its settings load, its receiver verifies, its commands exist."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner
from standardwebhooks import Webhook

from rankgate.approvals import State
from rankgate.cli import root
from rankgate.console.webhook import EVENTS
from rankgate.settings import ApprovalSettings

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "approvals.md").read_text("utf-8")


def blocks(language: str) -> list[str]:
    """Return the blocks of a language, without the indentation of a list they stand in."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", PAGE, re.DOTALL | re.MULTILINE)
    return [re.sub(rf"^{indent}", "", text, flags=re.MULTILINE) for indent, text in found]


def test_the_policy_passes_the_tests_beside_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")
    files = re.findall(r"```rego file=(\S+)\n(.*?)```", PAGE, re.DOTALL)
    assert len(files) == 2
    for name, text in files:
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    ((command, output),) = re.findall(r"```console\n\$ (.*?)\n(.*?)```", PAGE, re.DOTALL)
    told = CliRunner().invoke(root, shlex.split(command)[1:], prog_name="rankgate")
    pattern = re.escape(output.strip()).replace(r"\.\.\.", r"[0-9.]+")
    assert re.fullmatch(pattern, told.output.strip()), told.output
    told = CliRunner().invoke(root, ["policy", "check", "mine"], prog_name="rankgate")
    assert told.exit_code == 0, told.output


def test_the_gates_settings_are_settings() -> None:
    section = tomllib.loads(blocks("toml")[0])["approvals"]
    assert ApprovalSettings.model_validate(section).owners[0].people == ("ada@acme.example",)


def test_the_consoles_settings_are_settings() -> None:
    settings = pytest.importorskip("rankgate.console.settings", reason="the console is not there")
    _, console, webhook = map(tomllib.loads, blocks("toml"))
    found = settings.ConsoleSettings.model_validate(console | webhook)
    assert found.login.cli_client_id == "rankgate-cli"
    assert set(found.webhook.events) <= {*EVENTS}


def test_the_receiver_verifies_the_sample_message() -> None:
    secret = "whsec_" + "A" * 43 + "="
    seen: list[Any] = []
    names: dict[str, Any] = {"SECRET": secret, "seen": lambda _: False, "handle": seen.append}
    exec(blocks("python")[0], names)
    (body,) = blocks("json")
    now = datetime.now(UTC)
    signature = Webhook(secret).sign("evt_1", now, body)
    headers = {
        "webhook-id": "evt_1", "webhook-timestamp": str(int(now.timestamp())), "webhook-signature": signature,
    }  # fmt: skip
    names["receive"](headers, body)
    assert seen == [json.loads(body)]


def test_every_type_of_message_is_named() -> None:
    for name in EVENTS.values():
        assert f"`{name}`" in PAGE or f"`.{name.partition('.')[2]}`" in PAGE
    assert {f"approval.{state}" for state in State} - {*EVENTS.values()} == {"approval.pending"}


def test_every_command_and_option_on_the_page_is_one() -> None:
    commands = re.findall(r"^rankgate (approvals .*?)(?: +#.*| && .*)?$", "\n".join(blocks("sh")), re.MULTILINE)
    assert len(commands) == 8
    for line in commands:
        command: click.Command = root
        context = click.Context(root)
        words = shlex.split(line)
        while isinstance(command, click.Group):
            found = command.get_command(context, words.pop(0))
            assert found is not None, line
            command = found
        command.make_context(command.name, words)
