"""Connections that end where nothing comes of them: only so many may be open at once, and silence is cheap."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Punctual"]

SPEAK_S = 10.0


class Punctual(H11Protocol):
    """HTTP of uvicorn, which would wait for a request, or for the rest of one, for ever.

    Between two requests its own `timeout_keep_alive` counts.
    """

    _hurry: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to wait for a request."""
        super().connection_made(transport)
        self._wait()

    def data_received(self, data: bytes) -> None:
        """Take what came, and wait only so long for what makes it a request."""
        super().data_received(data)
        if bool(self.cycle) and not self.cycle.response_complete:
            self._wait_no_more()
        elif self._hurry is None:
            self._wait()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait for nothing any more."""
        self._wait_no_more()
        super().connection_lost(exc)

    def _wait(self) -> None:
        self._hurry = self.loop.call_later(SPEAK_S, self.transport.close)

    def _wait_no_more(self) -> None:
        if self._hurry is not None:
            self._hurry.cancel()
            self._hurry = None
