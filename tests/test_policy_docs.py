"""docs/policies.md is executed: its files are written, its commands run, its output compared."""

from __future__ import annotations

import dataclasses
import re
import shlex
import shutil
from pathlib import Path

import pytest
from click.testing import CliRunner

from rankgate.cli import root
from rankgate.policy import Ruling
from rankgate.policy.question import OPT_INS
from rankgate.policy.sample import sample_question

pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "docs" / "policies.md").read_text("utf-8")
FILES = re.findall(r"```\w+ file=(\S+)\n(.*?)```", PAGE, re.DOTALL)
SESSIONS = re.findall(r"```console\n(.*?)```", PAGE, re.DOTALL)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name, text in FILES:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    shutil.copytree(ROOT / "policies" / "lib", tmp_path / "mine" / "lib")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_gives_what_the_page_says(folder: Path) -> None:
    assert (len(FILES), len(SESSIONS)) == (3, 2)
    for session in SESSIONS:
        for step in re.split(r"^\$ ", session, flags=re.MULTILINE)[1:]:
            command, _, output = step.partition("\n")
            command, _, target = command.partition(" > ")
            told = CliRunner().invoke(root, shlex.split(command)[1:], prog_name="rankgate")
            assert told.exit_code == 0, told.output
            if target:
                (folder / target).write_text(told.output)
                continue
            pattern = re.escape(output.strip()).replace(r"\.\.\.", r"[0-9a-f.]+")
            assert re.fullmatch(pattern, told.output.strip()), told.output


def test_every_block_of_rego_and_commands_is_executed() -> None:
    fences = re.findall(r"^```(.+)$", PAGE, re.MULTILINE)
    assert all(fence == "console" or " file=" in fence for fence in fences)


def test_every_member_of_the_question_is_described() -> None:
    question = sample_question()
    for key in (*question, *question["identity"], *question["rerank"], *question["findings"], *OPT_INS):
        assert f"`{key}`" in PAGE, key


def test_every_member_of_the_ruling_is_described() -> None:
    names = {
        "mask_request": "request", "mask_response": "response", "response_headers": "response_headers_to_add",
        "remove": "request_headers_to_remove", "query_set": "query_parameters_to_set",
        "query_remove": "query_parameters_to_remove", "status": "http_status", "metadata": "dynamic_metadata",
    }  # fmt: skip
    for field in dataclasses.fields(Ruling):
        assert f"`{names.get(field.name, field.name)}`" in PAGE, field.name
