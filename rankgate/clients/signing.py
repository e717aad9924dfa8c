"""The key that signs checkpoints, and where they go: from the settings to a Seal."""

from __future__ import annotations

from pathlib import Path

from rankgate.audit.note import PEM_BYTES, Signer, signers
from rankgate.clients.audit_redis import connect
from rankgate.clients.places import FilePlace, Place, RedisPlace
from rankgate.clients.sealing import Seal
from rankgate.errors import SettingsError
from rankgate.settings import AuditSettings
from rankgate.settings.redis import RedisSettings

__all__ = ["open_seal", "read_signers"]


def read_signers(path: Path, deployment: str) -> tuple[Signer, ...]:
    """Return the keys in the file, the one that signs first; raises SettingsError."""
    try:
        with path.open("rb") as file:
            return signers(file.read(PEM_BYTES + 1), deployment)
    except OSError as error:
        raise SettingsError(f"audit.signing_key_file {path} cannot be read: {error.strerror}") from None
    except ValueError as error:
        raise SettingsError(
            f"audit.signing_key_file {path}: {error}; `rankgate audit keys --directory D` makes one"
        ) from None


def open_seal(settings: AuditSettings, deployment: str) -> Seal | None:
    """Return what signs the logs of this process, None where nothing is signed; raises SettingsError."""
    if settings.signing_key_file is None:
        return None
    keys = read_signers(settings.signing_key_file, deployment)
    places: list[tuple[Place, bool]] = []
    if settings.redis_url is not None:
        places.append((_redis(settings, deployment, "redis"), True))
    if settings.second_redis is not None:
        places.append((_redis(settings.second_redis, deployment, "second_redis"), False))
    if settings.second_place is not None:
        places.append((FilePlace(settings.second_place), False))
    return Seal(deployment, keys, places)


def _redis(section: RedisSettings, deployment: str, name: str) -> Place:
    client = connect(
        section.redis_url or "",
        user=section.redis_user,
        password_file=section.redis_password_file,
        ca_file=section.redis_ca_file,
    )
    return RedisPlace(client, deployment, name)
