"""Every recogniser there is. A pipeline for names joins here as one more Recognizer."""

from __future__ import annotations

from collections.abc import Sequence

from rankgate.detect.births import Births
from rankgate.detect.digits import DigitNumbers
from rankgate.detect.emails import Emails
from rankgate.detect.keys import API_KEYS, Assignments, JsonWebTokens, PrivateKeys
from rankgate.detect.network import IP, MAC, CredentialUrls
from rankgate.detect.phones import Phones
from rankgate.detect.recognizer import Recognizer
from rankgate.detect.registered import FISCAL_CODE, NIF, Ibans

__all__ = ["RULES", "recognizers"]

# Part of every detector's revision: raise it whenever any rule of this package changes what is found.
RULES = 2


def recognizers(phone_regions: Sequence[str]) -> tuple[Recognizer, ...]:
    """Return all recognisers; raises SettingsError on a phone region that does not exist."""
    return (
        PrivateKeys(),
        CredentialUrls(),
        JsonWebTokens(),
        Emails(),
        Ibans(),
        DigitNumbers(),
        FISCAL_CODE,
        NIF,
        Births(),
        Phones(phone_regions),
        MAC,
        IP,
        *API_KEYS,
        Assignments(),
    )
