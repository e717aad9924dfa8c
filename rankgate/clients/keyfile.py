"""An issuer's key set from a file that someone else keeps up to date."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import structlog

from rankgate.errors import GateError, Reason
from rankgate.keyset import SET_BYTES, KeySet, KeyStatus, admit
from rankgate.settings import IssuerSettings

__all__ = ["KeyFile"]

log = structlog.get_logger(__name__)

POLL_S = 2.0

# Device, inode, size and time of change: a replaced file and a swapped symlink (Kubernetes) both show.
_Version = tuple[int, int, int, int]


class KeyFile:
    """Keeps the key set of one `static` issuer, reading its file again when that changes.

    A file that goes missing or bad leaves the last good set in use, with a fault in `status`. `clock` is
    monotonic, in seconds; `sleep` waits that long.
    """

    def __init__(
        self,
        settings: IssuerSettings,
        path: Path,
        *,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
    ) -> None:
        self._settings = settings
        self._path = path
        self._clock = clock
        self._sleep = sleep
        self._keys: KeySet | None = None
        self._loaded_at = 0.0
        self._fault = "not loaded"
        self._version: _Version | None = None
        self._watcher: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Read the file, then watch it."""
        self._look()
        self._watcher = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        """End watching."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)

    def current(self) -> KeySet:
        """Return the last good set; raises GateError(KEYS_UNAVAILABLE) before the first."""
        if self._keys is None:
            raise GateError(Reason.KEYS_UNAVAILABLE, "no key set yet")
        return self._keys

    async def seek(self, key_id: str) -> None:  # noqa: ARG002  # any change of the file may bring the key
        """Look at the file once more; it is read only if it changed."""
        self._look()

    def status(self) -> KeyStatus:
        """Return age, counts and the latest fault of the key set."""
        return KeyStatus(
            issuer=self._settings.issuer,
            usable=self._keys is not None,
            keys=len(self._keys.keys) if self._keys else 0,
            dropped=self._keys.dropped if self._keys else {},
            age_s=self._clock() - self._loaded_at if self._keys else None,
            fault=self._fault,
        )

    async def _watch(self) -> None:
        while True:
            await self._sleep(POLL_S)
            self._look()

    def _look(self) -> None:
        try:
            state = self._path.stat()
            version = (state.st_dev, state.st_ino, state.st_size, state.st_mtime_ns)
            if version == self._version:
                return
            with self._path.open("rb") as file:
                document = file.read(SET_BYTES + 1)
            # Remembered even where the content is refused below: it is judged once per change.
            self._version = version
            self._keys = admit(document, self._settings.algorithms)
            self._loaded_at, self._fault = self._clock(), ""
        except OSError:
            self._version = None
            self._complain("unreadable")
        except GateError as refusal:
            self._complain(refusal.detail)
        else:
            if self._keys.dropped:
                log.warning("keys_dropped", issuer=self._settings.issuer, dropped=dict(self._keys.dropped))

    def _complain(self, fault: str) -> None:
        if fault != self._fault:
            log.warning("key_set_not_loaded", issuer=self._settings.issuer, fault=fault)
        self._fault = fault
