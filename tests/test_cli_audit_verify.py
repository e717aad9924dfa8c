"""`rankgate audit export`, `verify` and `show` on logs that a gate wrote: on disk, in streams and in files."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from fakes.events import completion, decision
from fakes.logs import open_log, until
from fakes.seals import KEY, NEXT, seal
from fakes.valkey import Server, running

from rankgate.audit.note import Signer, new_signing_key, signers
from rankgate.cli import audit_verify, root
from rankgate.clients.audit_redis import connect
from rankgate.clients.places import FilePlace, RedisPlace
from rankgate.clients.shipper import Shipper
from rankgate.settings import AuditSettings

VKEY = str(KEY.verifier)
PLACES = ("own", "second")


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(audit_verify, "SETTLE_S", 0.0)


def run(*arguments: object, code: int = 0) -> Result:
    result = CliRunner().invoke(root, ["audit", *map(str, arguments)])
    assert result.exit_code == code, (result.output, result.exception)
    return result


def told(*arguments: object, code: int = 0) -> dict[str, Any]:
    value = json.loads(run("verify", *arguments, "-o", "json", code=code).stdout)
    assert isinstance(value, dict)
    return value


@pytest.fixture
def gate(tmp_path: Path) -> Path:
    """Return a folder with the log of a gate in `own` and its second place in `second`."""
    record(tmp_path, KEY)
    return tmp_path


def record(folder: Path, *keys: Signer, number: int = 1) -> str:
    log = open_log(folder / "own", seal=seal(*keys, places=[(FilePlace(folder / "second"), False)]))

    async def append() -> None:
        for one in range(number, number + 3):
            await log.append(decision(one))
            await log.append(completion(one))

    asyncio.run(append())
    log.shut()
    return log.name


def tampered(folder: Path, old: bytes = b'"decision-2"', new: bytes = b'"decision-X"') -> Path:
    """Export, change the text of an entry, and return the file."""
    file = folder / "export.ndjson"
    run("export", "--from", folder / "own", "--to", file)
    data = file.read_bytes()
    old, new = old.replace(b'"', b'\\"'), new.replace(b'"', b'\\"')
    assert old in data
    file.write_bytes(data.replace(old, new))
    return file


def test_the_folder_of_a_gate_is_verified_and_says_what_is_not_proven(gate: Path) -> None:
    out = run("verify", "--from", gate / "own", "--key", VKEY).stdout
    assert out.splitlines()[-1] == "verified"
    assert "not proven: tail and set of logs" in out
    out = run("verify", "--from", gate / "own", "--key", VKEY, "--anchor", gate / "second").stdout
    assert "not proven" not in out


@pytest.mark.parametrize("folder", [True, False])
def test_an_export_is_verified_from_files_alone(gate: Path, folder: bool) -> None:
    to = gate / "copy"
    if folder:
        to.mkdir()
    done = run("export", "--from", gate / "own", "--to", to)
    assert done.stdout.startswith("1 logs, 7 entries, ")
    shutil.rmtree(gate / "own")
    value = told("--from", to, "--key", VKEY, "--anchor", gate / "second")
    assert value["verified"]
    assert value["not_proven"] == []
    (log,) = value["logs"]
    assert (log["entries"], log["covered"], log["first_bad"], log["faults"]) == (7, 7, None, [])


def test_the_first_bad_entry_is_named_and_the_command_fails(gate: Path) -> None:
    file = tampered(gate)
    value = told("--from", file, "--key", VKEY, code=1)
    assert [log["first_bad"] for log in value["logs"]] == [3]
    out = run("verify", "--from", file, "--key", VKEY, code=1).stdout
    assert "entry 3 is not the one that was signed" in out
    assert out.splitlines()[-1] == "NOT VERIFIED"


def test_a_damaged_frame_on_disk_is_named(gate: Path) -> None:
    (segment,) = (gate / "own").rglob("*.seg")
    data = segment.read_bytes()
    segment.write_bytes(data.replace(b'"decision-2"', b'"decision-X"', 1))
    (log,) = told("--from", gate / "own", "--key", VKEY, code=1)["logs"]
    assert log["first_bad"] == 3
    assert log["faults"][0]["text"] == "the frame of entry 3 is damaged on disk"


def test_a_log_cut_at_a_checkpoint_is_told_only_by_the_second_place(gate: Path) -> None:
    file = gate / "export.ndjson"
    run("export", "--from", gate / "own", "--to", file)
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join([line for line in lines if b'"checkpoint"' in line][:1]))
    value = told("--from", file, "--key", VKEY)
    assert value["not_proven"] == ["tail", "logs"]
    assert [note["word"] for note in value["logs"][0]["notes"]] == ["not_closed"]
    value = told("--from", file, "--key", VKEY, "--anchor", gate / "second", code=1)
    assert value["logs"][0]["first_bad"] == 0
    file.write_bytes(b"")
    value = told("--from", file, "--key", VKEY, "--anchor", gate / "second", code=1)
    assert value["logs"][0]["faults"][0]["word"] == "log_missing"
    assert not told("--from", file, "--key", VKEY, code=1)["logs"]


def test_a_line_that_is_nothing_is_told_and_nothing_is_verified_with_it(gate: Path) -> None:
    file = gate / "export.ndjson"
    run("export", "--from", gate / "own", "--to", file)
    file.write_bytes(file.read_bytes() + b"rubbish\n")
    assert told("--from", file, "--key", VKEY, code=1)["lines"] == [
        f"export.ndjson: line {len(file.read_bytes().splitlines())} is neither an entry nor a checkpoint"
    ]


def test_keys_may_be_in_a_file_and_others_verify_nothing(gate: Path) -> None:
    (gate / "keys").write_text(f"# the key of production\n{VKEY} # since spring\n\n")
    assert told("--from", gate / "own", "--key", gate / "keys")["verified"]
    value = told("--from", gate / "own", "--key", NEXT.verifier, code=1)
    assert {fault["word"] for fault in value["logs"][0]["faults"]} == {"checkpoint", "unsigned"}


def test_a_key_that_another_handed_over_to_is_believed_and_told(gate: Path) -> None:
    record(gate, NEXT, KEY, number=10)
    value = told("--from", gate / "own", "--key", VKEY, "--anchor", gate / "second")
    assert [one["key"] for one in value["rotations"]] == [str(NEXT.verifier)]


def test_wrong_usage_is_told_apart(gate: Path) -> None:
    (other,) = signers(new_signing_key(), "other")
    run("verify", "--from", gate / "own", code=2)
    run("verify", "--key", VKEY, code=2)
    run("verify", "--from", gate / "own", "--key", "rubbish", code=2)
    run("verify", "--from", gate / "own", "--key", VKEY, "--key", other.verifier, code=2)
    run("verify", "--redis", "http://x", "--key", VKEY, code=2)
    run("export", "--from", gate / "own", "--to", gate / "no" / "such", code=1)
    (gate / "empty").mkdir()
    run("export", "--from", gate / "empty", "--to", gate / "x", code=1)


def test_a_decision_is_shown_with_its_completion(gate: Path) -> None:
    out = run("show", "decision-2", "--from", gate / "own").stdout
    assert [line.split("  ")[0] for line in out.splitlines() if line[0] not in "{ }"] == ["decision", "completion"]
    assert '"correlation_uid": "decision-2"' in out
    assert "there is no decision" in run("show", "decision-9", "--from", gate / "own", code=1).output


def test_a_proof_is_checked_with_the_key_alone(gate: Path) -> None:
    proof = gate / "proof.json"
    proof.write_text(run("show", "decision-2", "--from", gate / "own", "--proof").stdout)
    name = next((gate / "second").iterdir()).name.removesuffix(".checkpoints").replace(".", "/", 1).replace(".", "/", 1)
    shutil.rmtree(gate / "own")
    assert run("verify", "--receipt", proof, "--key", VKEY).stdout == f"proven  {name}#3\nproven  {name}#4\n"
    run("verify", "--receipt", proof, "--key", NEXT.verifier, code=1)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("decision-2", "decision-3"), ('"index":3', '"index":2'), ('"size":', '"size":1'), ('"path":["', '"path":["A'),
        ('"entries":[', '"entries":[],"x":['), ('\\"allowed\\":true', '\\"allowed\\":null'), ("{", "["),
        ('"receipt":', '"r":'),
    ],
)  # fmt: skip
def test_a_proof_that_was_changed_proves_nothing(gate: Path, old: str, new: str) -> None:
    proof = gate / "proof.json"
    text = run("show", "decision-2", "--from", gate / "own", "--proof").stdout
    assert old in text
    proof.write_text(text.replace(old, new, 1))
    assert "not proven" in run("verify", "--receipt", proof, "--key", VKEY, code=1).output


@pytest.fixture
def server() -> Iterator[Server]:
    with running() as started:
        yield started


def test_streams_are_verified_online_and_a_changed_entry_is_named(server: Server, tmp_path: Path) -> None:
    place = RedisPlace(connect(server.url), "default", "redis")
    log = open_log(tmp_path / "own", seal=seal(places=[(place, True)]))
    shipper = Shipper(log, AuditSettings(directory=tmp_path, redis_url=server.url), deployment="default")
    shipper.start()

    async def append() -> None:
        for one in range(3):
            await log.append(decision(one))
        await until(lambda: told_of(server)["logs"][0]["covered"] == 4)

    asyncio.run(append())
    shipper.stop(10.0)
    log.shut()
    value = told_of(server)
    assert value["verified"]
    assert value["logs"][0]["notes"] == []
    with server.client() as client:
        key = f"audit:{{default}}:{log.name}"
        first, fields = client.xrange(key)[2]
        client.xdel(key, first)
        assert fields[b"id"] == b"2"
    assert told_of(server, code=1)["logs"][0]["first_bad"] == 2
    assert "cannot be read" in run("verify", "--redis", "unix:///nowhere/s", "--key", VKEY, code=1).output


def told_of(server: Server, code: int | None = None) -> dict[str, Any]:
    result = CliRunner().invoke(root, ["audit", "verify", "--redis", server.url, "--key", VKEY, "-o", "json"])
    assert code is None or result.exit_code == code, result.output
    value = json.loads(result.stdout)
    assert isinstance(value, dict)
    value["logs"] = value["logs"] or [{"covered": 0}]
    return value
