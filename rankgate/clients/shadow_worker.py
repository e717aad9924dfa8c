"""The process in which a candidate policy decides: questions in, a line each; answers out, a line each.

The embedded engine holds the interpreter's lock while it evaluates, so beside live traffic a candidate has a process of
its own. Whatever it does there, loop or panic, ends with that process.

A line in is `{"live": VERDICT, "documents": COUNT, "question": QUESTION}`. A line out is an answer, one for each
question in order: `{"changes": WORDS, "fault": WORD}`, or news of the folder: `{"loaded": REVISION, "why": FAULT}`,
with an empty fault where its present state is in force.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import sys
from pathlib import Path
from typing import Any

import msgspec
import structlog
import watchfiles

from rankgate.clients.rego import LOOK_MS, QUIET_MS, EmbeddedEngine
from rankgate.errors import GateError
from rankgate.policy.verdict import changes, fault_verdict, verdict_of
from rankgate.settings import PolicySettings

__all__ = ["LINE_BYTES", "main"]

LINE_BYTES = 67_108_864
"""The longest question: a body of the largest size with every opt-in."""

RETRY_S = 1.0
NICE = 10
WHY_CHARS = 1000


class _Offer(msgspec.Struct):
    live: dict[str, Any]
    documents: int
    question: msgspec.Raw


_OFFER = msgspec.json.Decoder(_Offer)


class _Worker:
    def __init__(self, directory: Path, path: str, timeout_s: float, credential_header: str) -> None:
        self._directory = directory
        self._credential_header = credential_header
        settings = PolicySettings.model_validate({"path": path, "timeout_s": timeout_s})
        self._engine = EmbeddedEngine(settings, directory, changed=lambda revision, why: self._news(revision, why))

    async def run(self) -> None:
        """Answer until the questions end."""
        reader = asyncio.StreamReader(limit=LINE_BYTES)
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        await self._engine.reload()
        watching = asyncio.create_task(self._watch())
        while line := await reader.readline():
            _say(await self._compare(_OFFER.decode(line)))
        watching.cancel()

    async def _compare(self, one: _Offer) -> dict[str, Any]:
        try:
            answer = await self._engine.decide(bytes(one.question).decode())
        except GateError as error:
            candidate = fault_verdict(error.reason.value)
        else:
            candidate = verdict_of(
                lambda: answer, document_count=one.documents, credential_header=self._credential_header
            )
        return {"changes": changes(one.live, candidate), "fault": candidate.get("fault", "")}

    async def _watch(self) -> None:
        while True:
            try:
                async for _ in watchfiles.awatch(
                    self._directory, watch_filter=None, step=QUIET_MS, rust_timeout=LOOK_MS, yield_on_timeout=True
                ):
                    await self._engine.reload()
            except (OSError, RuntimeError):
                # The folder may come back.
                await self._engine.reload()
                await asyncio.sleep(RETRY_S)

    def _news(self, revision: str, why: str) -> None:
        _say({"loaded": revision, "why": why[:WHY_CHARS]})


def _say(value: dict[str, Any]) -> None:
    sys.stdout.buffer.write(json.dumps(value).encode() + b"\n")
    sys.stdout.buffer.flush()


def main(directory: str, path: str, timeout_s: str, credential_header: str) -> None:
    """Answer questions from standard input with the policy of `directory`."""
    # Standard output is for answers, and the gate logs what it makes of them.
    structlog.configure(logger_factory=structlog.ReturnLoggerFactory())
    logging.disable()
    os.nice(NICE)
    asyncio.run(_Worker(Path(directory), path, float(timeout_s), credential_header).run())


if __name__ == "__main__":
    main(*sys.argv[1:])
