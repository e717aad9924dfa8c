"""The tree of a log on disk, also where its first segments are gone: `<birth>/edge` holds the edge before the rest.

The file needs no signature. An edge that is not the one there was leads to another root than the one that was signed.
"""

from __future__ import annotations

import json
from pathlib import Path

from rankgate.audit.tree import RightEdge, leaf_hash
from rankgate.clients.disk import replace_file
from rankgate.clients.segments import LogFiles

__all__ = ["extend", "grown", "keep_edge", "read_edge"]

EDGE = "edge"
PAGE = 512


def read_edge(folder: Path, first: int) -> RightEdge | None:
    """Return the tree below the entries that are held from number `first` on, or a little above; None if not known.

    It may stand above `first`: it is written before a segment is deleted.
    """
    try:
        value = json.loads((folder / EDGE).read_bytes())
        edge = RightEdge(int(value["size"]), [bytes.fromhex(one) for one in value["hashes"]])
    except FileNotFoundError:
        return None if first else RightEdge()
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return edge if edge.size >= first else None


def grown(files: LogFiles, size: int) -> RightEdge | None:
    """Return the tree over the first `size` entries; None where they cannot be read any more. Raises OSError."""
    edge = read_edge(files.folder, files.first)
    if edge is None or edge.size > size or not extend(edge, files, size):
        return None
    return edge


def extend(edge: RightEdge, files: LogFiles, size: int, leaves: list[bytes] | None = None) -> bool:
    """Add the entries up to `size` to `edge`, and their hashes to `leaves`; return False where one cannot be read."""
    while edge.size < size:
        frames = files.read(edge.size, min(PAGE, size - edge.size))
        if not frames:
            return False
        for frame in frames:
            hashed = leaf_hash(frame.leaf)
            edge.append(hashed)
            if leaves is not None:
                leaves.append(hashed)
    return True


def keep_edge(files: LogFiles, first: int) -> bool:
    """Write down the tree below `first`, because the entries below it are about to go; raises OSError.

    Returns False where it cannot be known any more.
    """
    edge = grown(files, first)
    if edge is None:
        return False
    text = json.dumps({"size": edge.size, "hashes": [one.hex() for one in edge.hashes]})
    replace_file(files.folder / EDGE, text, durable=True)
    return True
