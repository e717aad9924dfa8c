"""Alive is not ready: what each probe says while parts fail, while the process drains, and while its loop hangs."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Mapping

import aiohttp
import pytest
from fakes.waiting import until
from prometheus_client import generate_latest

from rankgate.clients import pages as served
from rankgate.clients import probes
from rankgate.clients.metrics import new_registry
from rankgate.clients.probes import Health
from rankgate.clients.slot import Slot
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import HealthSettings

SLOT = Slot("ext_authz", 0)


class Parts:
    """A filter whose parts do as told."""

    def __init__(self) -> None:
        self.now: Mapping[str, bool] = {"policy": True, "audit": True}
        self.fault: Exception | None = None
        self.hangs = False
        self.told: list[bool] = []

    async def ask(self) -> Mapping[str, bool]:
        if self.hangs:
            await asyncio.Event().wait()
        if self.fault is not None:
            raise self.fault
        return self.now

    async def tell(self, ready: bool) -> None:
        self.told.append(ready)


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def parts() -> Parts:
    return Parts()


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def health(parts: Parts, clock: Clock) -> Health:
    return Health(parts.ask, parts.tell, new_registry(SLOT), monotonic=clock)


class Pages:
    def __init__(self, session: aiohttp.ClientSession, port: int) -> None:
        self._session = session
        self._url = f"http://127.0.0.1:{port}"

    async def get(self, path: str, method: str = "GET") -> tuple[int, str]:
        async with self._session.request(method, self._url + path) as answer:
            assert answer.headers["server"] == "rankgate"
            return answer.status, await answer.text()

    async def status(self, path: str) -> int:
        return (await self.get(path))[0]


@pytest.fixture
async def pages(health: Health) -> AsyncIterator[Pages]:
    registry = new_registry(SLOT)
    async with served.serve(health, registry, "127.0.0.1", 0, {}) as port, aiohttp.ClientSession() as session:
        assert port
        yield Pages(session, port)


async def test_what_a_filter_publishes_is_made_anew_and_its_absence_is_told_by_a_word(health: Health) -> None:
    there = ['{"keys": [1]}', '{"keys": [2]}']

    def document() -> str:
        if not there:
            raise GateError(Reason.CREDENTIAL_UNAVAILABLE, "key file")
        return there.pop(0)

    serving = served.serve(health, new_registry(SLOT), "127.0.0.1", 0, {"/document": document})
    async with serving as port, aiohttp.ClientSession() as session:
        found = []
        for _ in range(3):
            async with session.get(f"http://127.0.0.1:{port}/document") as answer:
                kept = answer.headers.get("cache-control")
                found.append((answer.status, answer.content_type, kept, await answer.text()))
    assert found == [
        (200, "application/json", "max-age=60", '{"keys": [1]}'),
        (200, "application/json", "max-age=60", '{"keys": [2]}'),
        (503, "application/json", None, '{"reason": "credential_unavailable"}'),
    ]


async def test_nothing_is_ready_before_the_first_look(health: Health, pages: Pages) -> None:
    assert (await pages.status("/livez"), await pages.status("/readyz")) == (200, 503)
    await health.look()
    assert await pages.status("/readyz") == 200


async def test_a_part_that_does_not_work_is_named_and_told(health: Health, parts: Parts, pages: Pages) -> None:
    await health.look()
    parts.now = {"policy": True, "audit": False}
    await health.look()
    status, text = await pages.get("/readyz")
    assert (status, text) == (
        503, '{"ready": false, "draining": false, "parts": {"policy": true, "audit": false}}',
    )  # fmt: skip
    assert await pages.status("/livez") == 200
    parts.now = {"policy": True, "audit": True}
    await health.look()
    assert parts.told == [True, False, True]


@pytest.mark.parametrize("way", ["raises", "hangs"])
async def test_parts_that_cannot_be_told_are_not_ready(
    health: Health, parts: Parts, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(probes, "LOOK_S", 0.05)
    await health.look()
    parts.fault, parts.hangs = (RuntimeError("token"), False) if way == "raises" else (None, True)
    await health.look()
    assert not health.ready
    assert parts.told == [True, False]


async def test_a_process_told_to_end_is_alive_but_takes_no_more_calls(
    health: Health, parts: Parts, pages: Pages
) -> None:
    await health.look()
    await health.drain()
    assert (await pages.status("/livez"), await pages.status("/readyz")) == (200, 503)
    await health.look()
    assert parts.told == [True, False, False]


async def test_a_loop_that_stood_still_is_not_alive_until_it_turns(health: Health, clock: Clock, pages: Pages) -> None:
    clock.now += probes.STUCK_S + 1
    assert await pages.status("/livez") == 503
    async with health.watching():
        await until(lambda: health.alive)
        assert await pages.status("/livez") == 200


async def test_it_keeps_looking_until_the_end(parts: Parts, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(probes, "LOOK_S", 0.01)
    monkeypatch.setattr(probes, "TURN_S", 0.01)
    registry = new_registry(SLOT)
    health = Health(parts.ask, parts.tell, registry)
    async with health.watching():
        assert health.ready
        parts.now = {"policy": False, "audit": True}
        await until(lambda: not health.ready)
        await until(lambda: b"rankgate_loop_lag_seconds_count 0.0" not in generate_latest(registry))
    text = generate_latest(registry).decode()
    assert 'rankgate_ready{part="policy"} 0.0' in text
    assert 'rankgate_ready{part="audit"} 1.0' in text
    assert 'rankgate_ready{part="all"} 0.0' in text
    told = len(parts.told)
    await asyncio.sleep(0.05)
    assert len(parts.told) == told


async def test_only_three_pages_are_served_and_only_to_be_read(pages: Pages) -> None:
    status, text = await pages.get("/metrics")
    assert status == 200
    assert 'rankgate_build_info{role="ext_authz"' in text
    assert await pages.status("/") == 404
    assert [(await pages.get(path, "POST"))[0] for path in ("/metrics", "/readyz", "/livez")] == [405] * 3


async def test_a_port_that_is_taken_is_a_setting_that_cannot_work(health: Health) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(SettingsError, match=rf"port {port} cannot be had"):
            async with served.serve(health, new_registry(SLOT), "127.0.0.1", port, {}):
                pytest.fail("it was served")


def test_each_process_has_a_port_of_its_own() -> None:
    settings = HealthSettings.model_validate({"ext_authz_port": 9464, "ext_proc_port": 9564})
    ports = [settings.port(role, slot) for role in ("ext_authz", "ext_proc") for slot in range(64)]
    assert len(set(ports)) == 128
    assert settings.port("ext_authz", 3) == 9467
    assert HealthSettings.model_validate({}).port("ext_authz", 0) is None
    assert HealthSettings.model_validate({"ext_proc_port": 0}).port("ext_proc", 3) == 0


@pytest.mark.parametrize(
    "values",
    [
        {"ext_authz_port": 9464, "ext_proc_port": 9464},
        {"ext_authz_port": 9464, "ext_proc_port": 9465},
        {"ext_proc_port": 9464, "envoy_port": 9527},
    ],
)
def test_ports_that_processes_would_fight_over_are_refused(values: dict[str, int]) -> None:
    with pytest.raises(ValueError, match="health"):
        HealthSettings.model_validate(values)
