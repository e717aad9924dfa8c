"""A slot's recording is opened once, says what happened to the gate, and is closed last, whatever failed before."""

from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager
from pathlib import Path
from typing import Any

import pytest
from fakes.logs import stored
from fakes.seals import checkpoints
from prometheus_client import CollectorRegistry

import ext_authz.server
import ext_proc.server
from rankgate.audit import What
from rankgate.audit.checkpoint import verify_checkpoint
from rankgate.audit.entry import Row, read_body
from rankgate.audit.note import Verifiers, new_signing_key
from rankgate.clients.audit import FileLog
from rankgate.clients.identity import Verifier
from rankgate.clients.metrics import AuditMetrics
from rankgate.clients.processor import ProcessorProbe
from rankgate.clients.recording import FAULT_CHARS, Recording
from rankgate.clients.rego import EmbeddedEngine
from rankgate.clients.serving import Filter
from rankgate.clients.signing import read_signers
from rankgate.clients.slot import Slot
from rankgate.clients.telemetry import Telemetry
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.masking import Keys
from rankgate.settings import Settings, load

KEYS = Keys(b"k" * 32, "1")
SLOT = Slot("ext_authz", 0)


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return configured(tmp_path)


def configured(folder: Path, **sections: Any) -> Settings:
    (folder / "key").write_bytes(b"k" * 32)
    values: dict[str, Any] = {
        "upstream": {"url": "http://127.0.0.1:9"},
        "issuers": [{"issuer": "https://issuer.example", "audiences": ["rerank"], "preset": "static"}],
        "masking": {"key_file": folder / "key"},
        "audit": {"directory": folder / "audit"},
        "sockets": {"directory": folder / "sockets"},
    }
    values["issuers"][0]["jwks_file"] = folder / "jwks.json"
    return load(None, **(values | sections))


async def opened(settings: Settings, slot: Slot = SLOT) -> Recording:
    return await Recording.open(settings, slot, KEYS, AuditMetrics(CollectorRegistry()))


async def recorded(settings: Settings, role: str = "ext_authz") -> list[Row]:
    """Open the slot again, which proves that it is free, and return what its log holds after its own beginning."""
    log = await asyncio.to_thread(
        FileLog.open, settings.audit, role, 0, deployment="default", digest=lambda data: "", version="0"
    )
    try:
        began, *rest = [read_body(leaf) for leaf in stored(log)]
        assert began.what == "log_began"
        return rest
    finally:
        await log.close()


async def test_a_slot_is_recorded_by_one_process_at_a_time(settings: Settings) -> None:
    recording = await opened(settings)
    with pytest.raises(SettingsError, match="in use by another process"):
        await opened(settings)
    other = await opened(settings, Slot("ext_authz", 1))
    await other.close()
    await recording.close()
    await (await opened(settings)).close()


async def test_what_was_appended_is_there_after_the_end_and_nothing_is_accepted_then(settings: Settings) -> None:
    recording = await opened(settings)
    assert recording.ready
    await recording.lifecycle(What.START, "ext_authz", 1_800_000_000.5, {"policy_revision": "r1"})
    await recording.close()
    assert not recording.ready
    with pytest.raises(GateError) as caught:
        await recording.lifecycle(What.STOP, "ext_authz", 1_800_000_001.0, {})
    assert caught.value.reason is Reason.AUDIT_UNAVAILABLE
    (row,) = await recorded(settings)
    assert (row.what, row.time) == ("start", 1_800_000_000_500)


async def test_a_policy_that_changed_is_recorded_and_one_that_did_not_load_is_an_alarm(settings: Settings) -> None:
    recording = await opened(settings)
    recording.policy_changed("r2", "")
    recording.policy_changed("r2", "x" * (2 * FAULT_CHARS))
    await recording.close()
    recording.policy_changed("r3", "")
    changed, failed = await recorded(settings)
    assert (changed.what, changed.word) == ("policy_reload", "")
    assert (failed.what, failed.word) == ("alarm", "policy_reload_failed")


async def test_a_server_that_is_out_holds_up_neither_the_start_nor_the_end(tmp_path: Path) -> None:
    audit = {"directory": tmp_path / "audit", "redis_url": f"unix://{tmp_path}/nobody.sock"}
    settings = configured(tmp_path, audit=audit)
    async with asyncio.timeout(20):
        recording = await opened(settings)
        await recording.lifecycle(What.START, "ext_authz", 1_800_000_000.0, {})
        await recording.close()
    assert [row.what for row in await recorded(settings) if row.what != "alarm"] == ["start"]


# -- in a filter ------------------------------------------------------------------------------------------------------


def filter_of(role: str, settings: Settings) -> AbstractAsyncContextManager[Filter]:
    """Return the real filter of a role, not entered yet."""
    return {"ext_authz": ext_authz.server.build, "ext_proc": ext_proc.server.build}[role](
        settings, Slot(role, 0), Telemetry.local(Slot(role, 0))
    )


@pytest.mark.parametrize("role", ["ext_authz", "ext_proc"])
async def test_a_filter_records_its_start_and_its_end_and_frees_the_slot(settings: Settings, role: str) -> None:
    async with filter_of(role, settings) as one:
        assert one.handler() is not None
    assert [row.what for row in await recorded(settings, role)] == ["start", "stop"]


async def test_a_filter_whose_policy_does_not_load_frees_the_slot_and_records_no_start(tmp_path: Path) -> None:
    (tmp_path / "policy").mkdir()
    (tmp_path / "policy" / "broken.rego").write_text("package rankgate\n\ndecision := {")
    settings = configured(tmp_path, policy={"directory": tmp_path / "policy"})
    with pytest.raises(SettingsError):
        async with filter_of("ext_authz", settings):
            pytest.fail("it started")
    assert await recorded(settings) == []


async def test_a_filter_whose_credential_is_missing_frees_the_slot(tmp_path: Path) -> None:
    settings = configured(tmp_path, credentials={"broker": "file", "file": tmp_path / "none"})
    with pytest.raises(SettingsError):
        async with filter_of("ext_authz", settings):
            pytest.fail("it started")
    assert await recorded(settings) == []


@pytest.mark.parametrize("part", [EmbeddedEngine, Verifier, ProcessorProbe])
async def test_a_part_that_does_not_stop_well_keeps_neither_the_end_nor_the_slot(
    settings: Settings, part: type, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def stop(self: object) -> None:
        raise RuntimeError("unforeseen")

    monkeypatch.setattr(part, "stop", stop)
    with pytest.raises(RuntimeError, match="unforeseen"):
        async with filter_of("ext_authz", settings):
            pass
    assert [row.what for row in await recorded(settings)] == ["start", "stop"]


# -- signed ------------------------------------------------------------------------------------------------------------


async def test_a_gate_with_a_key_signs_and_sends_checkpoints_to_a_second_place(tmp_path: Path) -> None:
    (tmp_path / "signing.pem").write_bytes(new_signing_key())
    settings = configured(
        tmp_path,
        audit={
            "directory": tmp_path / "audit",
            "signing_key_file": tmp_path / "signing.pem",
            "second_place": tmp_path / "second",
        },
    )
    recording = await opened(settings)
    await recording.lifecycle(What.START, "ext_authz", 1_800_000_000.0, {})
    await recording.close()
    (own,) = (tmp_path / "audit").rglob("checkpoints")
    (second,) = (tmp_path / "second").iterdir()
    assert own.read_bytes() == second.read_bytes()
    assert [one.checkpoint.kind for one in checkpoints(second)][-1] == "close"
    (key,) = read_signers(tmp_path / "signing.pem", "default")
    assert verify_checkpoint(checkpoints(own)[-1].checkpoint.note, Verifiers([key.verifier]))


@pytest.mark.parametrize("content", [None, b"", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"])
async def test_a_key_that_cannot_sign_keeps_the_gate_from_starting(tmp_path: Path, content: bytes | None) -> None:
    file = tmp_path / "signing.pem"
    if content is not None:
        file.write_bytes(content)
    settings = configured(tmp_path, audit={"directory": tmp_path / "audit", "signing_key_file": file})
    with pytest.raises(SettingsError, match=r"audit\.signing_key_file"):
        await opened(settings)
