"""A key set file is read again when it changes, and a bad one leaves the last good set in use."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from fakes.clock import Clock
from fakes.issuer import signing_key

from rankgate.clients.keyfile import POLL_S, KeyFile
from rankgate.errors import GateError, Reason
from rankgate.keyset import SET_BYTES
from rankgate.settings import IssuerSettings

ONE, TWO = signing_key("one").public, signing_key("two").public


def write(path: Path, *keys: Any) -> None:
    write_raw(path, json.dumps({"keys": keys}).encode())


def write_raw(path: Path, content: bytes) -> None:
    path.write_bytes(content)


def move(path: Path, to: Path) -> None:
    path.rename(to)


def source_of(path: Path, clock: Clock) -> KeyFile:
    settings = IssuerSettings.model_validate(
        {"preset": "static", "issuer": "offline", "audiences": ("rerank",), "jwks_file": path}
    )
    return KeyFile(settings, path, clock=clock, sleep=clock.sleep)


def ids(source: KeyFile) -> set[str | None]:
    return {key.key_id for key in source.current().keys}


async def poll(clock: Clock) -> None:
    """Move to the next look at the file and wait until it is over."""
    async with asyncio.timeout(10):
        while not clock.waits:  # noqa: ASYNC110  # the watcher has no event to wait for
            await asyncio.sleep(0)
        clock.advance(POLL_S)
        while not clock.waits:  # noqa: ASYNC110  # the watcher has no event to wait for
            await asyncio.sleep(0)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "jwks.json"


@pytest.fixture
async def source(path: Path, clock: Clock) -> AsyncIterator[KeyFile]:
    write(path, ONE)
    made = source_of(path, clock)
    await made.start()
    yield made
    await made.stop()


async def test_keys_come_from_the_file(source: KeyFile) -> None:
    assert ids(source) == {"one"}
    status = source.status()
    assert (status.issuer, status.usable, status.keys, status.age_s, status.fault) == ("offline", True, 1, 0.0, "")


async def test_a_changed_file_is_read_again(source: KeyFile, path: Path, clock: Clock) -> None:
    write(path, ONE, TWO)
    await poll(clock)
    assert ids(source) == {"one", "two"}


async def test_a_swapped_symlink_is_a_change(tmp_path: Path, clock: Clock) -> None:
    # Kubernetes updates mounted files by swapping a link; size and time may stay the same.
    for name, key in (("old", ONE), ("new", TWO)):
        write(tmp_path / name, key)
    link = tmp_path / "jwks.json"
    link.symlink_to("old")
    source = source_of(link, clock)
    await source.start()
    (tmp_path / "next").symlink_to("new")
    (tmp_path / "next").replace(link)
    await poll(clock)
    assert ids(source) == {"two"}
    await source.stop()


async def test_an_unknown_key_id_looks_at_the_file_at_once(source: KeyFile, path: Path) -> None:
    write(path, ONE, TWO)
    await source.seek("two")
    assert ids(source) == {"one", "two"}


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "key set malformed"),
        (b'{"keys": [', "key set malformed"),
        (b'{"keys": []}', "key set empty"),
        (b" " * (SET_BYTES + 1), "key set too large"),
    ],
    ids=lambda value: str(value)[:20],
)
async def test_a_bad_file_leaves_the_last_good_set(
    source: KeyFile, path: Path, clock: Clock, content: bytes, fault: str
) -> None:
    write_raw(path, content)
    await poll(clock)
    assert ids(source) == {"one"}
    assert source.status().fault == fault
    write(path, TWO)
    await poll(clock)
    assert ids(source) == {"two"}
    assert source.status().fault == ""


async def test_a_file_that_goes_and_comes_back_leaves_no_fault(source: KeyFile, path: Path, clock: Clock) -> None:
    aside = path.with_suffix(".aside")
    move(path, aside)
    await poll(clock)
    assert source.status().fault == "unreadable"
    assert ids(source) == {"one"}
    move(aside, path)
    await poll(clock)
    assert source.status().fault == ""


async def test_without_a_file_the_keys_are_unavailable_until_it_comes(path: Path, clock: Clock) -> None:
    source = source_of(path, clock)
    await source.start()
    with pytest.raises(GateError) as refusal:
        source.current()
    assert refusal.value.reason is Reason.KEYS_UNAVAILABLE
    assert not source.status().usable
    write(path, ONE)
    await poll(clock)
    assert ids(source) == {"one"}
    await source.stop()


async def test_dropped_keys_are_counted(source: KeyFile, path: Path, clock: Clock) -> None:
    write(path, ONE, {"kty": "oct", "k": "AAAA"})
    await poll(clock)
    assert dict(source.status().dropped) == {"symmetric": 1}
