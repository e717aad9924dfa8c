"""A process that appends until it is killed; prints every acknowledged number, one a line."""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from rankgate.audit import LifecycleEvent, What
from rankgate.audit.text import keyed
from rankgate.clients.audit import FileLog, Tools
from rankgate.settings import AuditSettings


async def main(directory: str, segment_bytes: int) -> None:
    """Append from sixteen tasks for ever."""
    log = FileLog.open(
        AuditSettings(directory=Path(directory)), "authz", 0,
        deployment="default", digest=keyed(b"k" * 32), version="0", tools=Tools(segment_bytes=segment_bytes),
    )  # fmt: skip

    async def append() -> None:
        while True:
            receipt = await log.append(LifecycleEvent(What.START, 1, "authz", detail={"filler": "x" * 300}))
            sys.stdout.write(f"{receipt.index}\n")
            sys.stdout.flush()

    await asyncio.gather(*(append() for _ in range(16)))


asyncio.run(main(sys.argv[1], int(sys.argv[2])))
