"""The logs of a slot as a new process finds them: read to their ends, judged, and ended where they cannot go on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rankgate.clients.audit_tools import Tools
from rankgate.clients.sealing import Seal
from rankgate.clients.segments import LogFiles, births

__all__ = ["Recalled", "recall"]


@dataclass(frozen=True, slots=True)
class Recalled:
    """The slot's logs, oldest first; the last goes on unless it `ended`.

    `cut_bytes` were cut off it as a torn write. `damaged` is a log and the entry at which it is. `unlike` says why the
    last log is not what was signed before, empty where it is or nothing is signed.
    """

    history: list[LogFiles]
    cut_bytes: int
    damaged: tuple[LogFiles, int] | None
    unlike: str

    @property
    def last_ms(self) -> int:
        """Return the latest time of any entry."""
        return max((files.last_ms for files in self.history), default=0)

    @property
    def goes_on(self) -> bool:
        """Tell whether the last log is to be continued."""
        return bool(self.history) and not self.history[-1].ended

    @property
    def why(self) -> str:
        """Return why a new log has to be begun."""
        return "damaged" if self.damaged else self.unlike or "ended"


def recall(slot: Path, tools: Tools, seal: Seal | None, log_name: Callable[[LogFiles], str]) -> Recalled:
    """Read the logs in the folder `slot`. Raises OSError or SyncError."""
    history: list[LogFiles] = []
    damaged: tuple[LogFiles, int] | None = None
    cut = 0
    folders = list(births(slot))
    for folder in folders:
        opened = LogFiles.open(folder, tools.segment_bytes, tools.sync)
        history.append(opened.files)
        cut = opened.cut_bytes
        if opened.damaged_at is not None:
            damaged = opened.files, opened.damaged_at
            opened.files.end("damaged")
        elif folder is not folders[-1] and not opened.files.ended:
            opened.files.end("succeeded")
    unlike = "" if seal is None else _compare(seal, history, log_name)
    return Recalled(history, cut, damaged, unlike)


def _compare(seal: Seal, history: list[LogFiles], log_name: Callable[[LogFiles], str]) -> str:
    """Let the seal take the logs in; return why the last must not go on, empty where it may or has ended before."""
    unlike = ""
    for files in history:
        if not files.ended:
            unlike = seal.resume(files, log_name(files))
            if not unlike:
                return ""
            files.end(unlike)
        seal.known(files, log_name(files))
    return unlike
