"""The access token of the person at this machine: one private file, bound to the console it was obtained for."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from pathlib import Path

import msgspec

from rankgate.clients.state import StateDirectory

__all__ = ["KeptToken", "TokenError", "TokenFile"]

FILE_BYTES = 65_536


class TokenError(Exception):
    """There is a token file, and it cannot be used; the text says why and what to do."""


class KeptToken(msgspec.Struct, frozen=True):
    """A token and what it is for. `expires` is in seconds since the epoch. No refresh token is ever kept."""

    console: str
    issuer: str
    audience: str
    expires: float
    token: str

    def __repr__(self) -> str:
        return f"KeptToken({self.console})"


class TokenFile:
    """`console-token` in the state folder: 0600 in a folder of 0700, whole or not at all."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self.path = folder / "console-token"

    @classmethod
    def of(cls, environment: Mapping[str, str], home: Path) -> TokenFile:
        """Return the file below XDG_STATE_HOME, or `~/.local/state` (XDG Base Directory Specification)."""
        state = environment.get("XDG_STATE_HOME", "")
        return cls((Path(state) if state.startswith("/") else home / ".local" / "state") / "rankgate")

    def read(self) -> KeptToken | None:
        """Return what is kept, None where nothing is; raises TokenError."""
        try:
            descriptor = os.open(self.path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise TokenError(f"{self.path} cannot be read: {error.strerror}; log in again") from None
        with os.fdopen(descriptor, "rb") as file:
            found = os.fstat(descriptor)
            if not stat.S_ISREG(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
                raise TokenError(
                    f"{self.path} may be read or written by others (mode {stat.S_IMODE(found.st_mode):04o}); "
                    "whoever did has your token: run `rankgate approvals logout`, then log in again"
                )
            body = file.read(FILE_BYTES)
        try:
            return msgspec.json.decode(body, type=KeptToken)
        except msgspec.DecodeError:
            raise TokenError(f"{self.path} holds no token; log in again") from None

    def write(self, kept: KeptToken) -> None:
        """Keep a token in place of what was kept; raises TokenError."""
        try:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            StateDirectory(self._folder).write_secret(self.path.name, msgspec.json.encode(kept))
        except OSError as error:
            raise TokenError(f"{self.path} cannot be written: {error.strerror}") from None

    def remove(self) -> bool:
        """Forget the token; tell whether there was one. Raises TokenError."""
        try:
            self.path.unlink()
        except FileNotFoundError:
            return False
        except OSError as error:
            raise TokenError(f"{self.path} cannot be removed: {error.strerror}") from None
        return True
