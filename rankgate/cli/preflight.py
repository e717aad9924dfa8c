"""What `rankgate up` looks at before it starts anything: the state folder's path, the files, the port."""

from __future__ import annotations

import errno
import re
import socket
from pathlib import Path

from rankgate.cli.settings_files import file_faults
from rankgate.envoyconfig import SOCKET_PATH_BYTES
from rankgate.errors import SettingsError
from rankgate.settings import Settings

__all__ = ["check_settings", "check_state_path"]

# The longest name that a gate with one process a filter binds below its state folder.
_LONGEST_SOCKET = "sockets/ext_authz-0.sock"
# What a unix:// URL takes as it is.
_PATH = re.compile(r"[!-~]+")
_URL_MARKS = frozenset("?#%")


def check_state_path(path: Path) -> None:
    """Raise SettingsError where no unix socket can be bound below `path`, or no URL can name it."""
    full = path.absolute()
    if not _PATH.fullmatch(str(full)) or _URL_MARKS & set(str(full)):
        raise SettingsError(
            f"the state folder {str(full)!r} has a space or another character that a unix:// URL cannot hold; "
            "choose another with --state"
        )
    room = SOCKET_PATH_BYTES - len(f"/{_LONGEST_SOCKET}")
    if len(str(full)) > room:
        raise SettingsError(
            f"the state folder {full} is too long: its sockets need a path of {room} characters or fewer; "
            "choose another with --state"
        )


def check_settings(settings: Settings) -> None:
    """Raise SettingsError, one line a fault, where a gate with `settings` could not start on this machine."""
    faults = file_faults(settings)
    taken = port_fault(settings.listen.address, settings.listen.port)
    if taken is not None:
        faults.append(taken)
    if faults:
        raise SettingsError("\n".join(faults))


def port_fault(address: str, port: int) -> str | None:
    """Return why nothing can listen on `address` and `port`, with the remedy; None where it can."""
    place = f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
    with socket.socket(socket.AF_INET6 if ":" in address else socket.AF_INET) as probe:
        # As Envoy does: a port in TIME_WAIT is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
            # On some systems the bind alone succeeds beside a listener.
            probe.listen(1)
        except OSError as error:
            why = {
                errno.EADDRINUSE: "is in use",
                errno.EACCES: "needs more rights than this user has",
                errno.EADDRNOTAVAIL: "is no address of this machine",
            }.get(error.errno or 0, f"cannot be listened on ({error.strerror})")
            return f"{place} {why}; choose another with --listen"
    return None
