"""What every settings section is made of."""

from __future__ import annotations

import ipaddress
import re
from typing import Annotated, Literal
from urllib.parse import SplitResult, urlsplit

from pydantic import BaseModel, ConfigDict, StringConstraints

__all__ = ["HeaderName", "Name", "NonEmpty", "Operator", "Section", "address", "is_loopback"]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9._-]{0,62}[a-z0-9])?$")]
HeaderName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9!#$%&'*+.^`|~-]{1,64}$")]
NonEmpty = Annotated[str, StringConstraints(min_length=1)]
Operator = Literal["pseudonym", "redact", "partial", "hash"]

_HOST = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,251}[A-Za-z0-9])?\.?")


def address(setting: str, url: str) -> SplitResult:
    """Return the parts of `url`, whose host and port can be connected to; there may be neither, as for unix.

    Raises ValueError naming `setting`. What nobody can use is refused here, where it has a name.
    """
    try:
        parts = urlsplit(url)
        host, port = parts.hostname or "", parts.port
        if "[" in parts.netloc:
            ipaddress.ip_address(host)
    except ValueError:
        raise ValueError(f"{setting} has no usable host or port; the port must be 1 to 65535") from None
    if port == 0 or parts.netloc.endswith(":"):
        raise ValueError(f"{setting} has no usable port; give one of 1 to 65535, or leave the colon out")
    if any(not "!" <= character <= "~" for character in url) or not (":" in host or _HOST.fullmatch(host) or not host):
        raise ValueError(
            f"{setting} has a character that no address holds; host names are letters, digits, '.' and '-'"
        )
    return parts


def is_loopback(host: str) -> bool:
    """Tell whether `host` names this machine only."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return False


class Section(BaseModel):
    """A group of settings: immutable, unknown names refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")
