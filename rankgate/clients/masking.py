"""The deployment's masking key, from its file."""

from __future__ import annotations

from rankgate.errors import SettingsError
from rankgate.masking import Keys
from rankgate.settings import MaskingSettings

__all__ = ["read_keys"]


def read_keys(settings: MaskingSettings) -> Keys:
    """Return the keys derived from `masking.key_file`. Raises SettingsError."""
    try:
        master = settings.key_file.read_bytes()
    except OSError as error:
        raise SettingsError(
            f"masking.key_file {settings.key_file} cannot be read: {error.strerror}; "
            "create it with: openssl rand -out FILE 32"
        ) from None
    return Keys(master, settings.epoch)
