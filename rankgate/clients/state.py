"""The folder of a gate that runs on one machine: its keys, its trail, its sockets and the settings it runs with."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from rankgate.audit.note import new_signing_key
from rankgate.clients.locks import held
from rankgate.errors import SettingsError
from rankgate.minting import new_key
from rankgate.settings.text import to_toml

__all__ = ["StateDirectory", "merged"]

KEY_BYTES = 32
_HEADING = """\
# Written anew at every start, from the options and the file of --config: changes here are lost.
# Settings of your own belong into another file: rankgate up --config FILE
"""


class StateDirectory:
    """A private folder (0700) that one gate at a time uses. What it holds survives the gate."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()

    @contextlib.contextmanager
    def locked(self) -> Iterator[None]:
        """Create the folder and hold it. Raises SettingsError where it cannot be made or another gate has it."""
        try:
            self.path.mkdir(mode=0o700, parents=True, exist_ok=True)
            self.path.chmod(0o700)
        except OSError as error:
            raise SettingsError(f"cannot use the state folder {self.path}: {error.strerror}") from None
        with held(
            self.path / "lock",
            taken=f"another gate uses {self.path}; stop it or choose another folder",
            unusable=f"cannot use the state folder {self.path}",
        ):
            yield

    def defaults(self) -> dict[str, Any]:
        """Return the settings that place everything inside this folder, with two keys made on first use."""
        return {
            "masking": {"key_file": self.secret("masking.key", secrets.token_bytes(KEY_BYTES))},
            "audit": {
                "directory": self.path / "audit",
                "redis_url": f"unix://{self.path}/valkey.sock",
                "signing_key_file": self.secret("signing.pem", new_signing_key()),
            },
            "sockets": {"directory": self.path / "sockets"},
            "envoy": {"access_log": str(self.path / "access.log")},
        }

    def minting_defaults(self) -> dict[str, Any]:
        """Return the settings of a key to sign tokens with, made in this folder on first use."""
        return {"credentials": {"minted": {"key_file": self.secret("minting.pem", new_key())}}}

    def secret(self, name: str, content: bytes) -> Path:
        """Return the file `name` (0600), written with `content` where it does not exist yet."""
        path = self.path / name
        return path if path.exists() else self.write_secret(name, content)

    def write_secret(self, name: str, content: bytes) -> Path:
        """Write the file `name` (0600), whole or not at all, and return it."""
        path, draft = self.path / name, self.path / f"{name}.new"
        draft.unlink(missing_ok=True)
        draft.touch(mode=0o600, exist_ok=False)
        draft.write_bytes(content)
        return draft.replace(path)

    def write_settings(self, values: Mapping[str, Any]) -> Path:
        """Write `values` as the settings file of this folder, and return it."""
        path = self.path / "settings.toml"
        path.write_text(f"{_HEADING}\n{to_toml(values)}", encoding="utf-8")
        return path


def merged(*layers: Mapping[str, Any]) -> dict[str, Any]:
    """Return the settings of all `layers`, section by section; a later layer wins, a None never does."""
    result: dict[str, Any] = {}
    for layer in layers:
        for name, value in layer.items():
            if isinstance(value, Mapping):
                base = result.get(name)
                result[name] = merged(base if isinstance(base, Mapping) else {}, value)
            elif value is not None:
                result[name] = value
    return result
