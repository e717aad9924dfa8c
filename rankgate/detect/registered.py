"""Identifiers of letters and digits with a check: IBAN, the Italian fiscal code, Spanish NIF and NIE."""

from __future__ import annotations

import re
from collections.abc import Iterator

from stdnum import iban

from rankgate.detect.checks import is_fiscal_code, is_nif
from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried
from rankgate.detect.recognizer import Rule

__all__ = ["FISCAL_CODE", "NIF", "Ibans", "is_iban"]

# ISO 13616 registry: characters of an IBAN by country.
_LENGTHS = {
    code: int(length)
    for length, codes in {
        "15": "NO", "16": "BE", "18": "DK FI FK FO GL NL SD", "19": "MK SI", "20": "AT BA EE KZ LT LU MN XK",
        "21": "CH HR LI LV", "22": "BG BH CR DE GB GE IE ME RS VA", "23": "AE GI IL IQ OM SO TL",
        "24": "AD CZ ES MD PK RO SA SE SK TN VG", "25": "LY PT ST", "26": "IS TR", "27": "BI DJ FR GR IT MC MR SM",
        "28": "AL AZ BY CY DO GT HU LB NI PL SV", "29": "BR EG PS QA UA", "30": "JO KW MU YE", "31": "MT SC",
        "32": "LC", "33": "RU",
    }.items()
    for code in codes.split()
}  # fmt: skip
# The two check digits behind two letters. The digit comes first in the pattern, as it is what most texts lack.
_START = re.compile(r"[0-9](?:(?<=[A-Za-z]{2}[0-9])|(?<=[A-Za-z]{2}[ \-][0-9]))[ \-]?[0-9]")
_BODY = re.compile(r"[0-9A-Za-z](?:[ \t\r\n.\-_]{0,2}[0-9A-Za-z]){14,33}")
# So many numbers of a text have their structure looked up; then the check digits alone are believed.
_QUESTIONS = 16
_SEPARATORS = str.maketrans("", "", " \t\r\n.-_")
_VALUES = str.maketrans({character: str(value) for value, character in enumerate("ABCDEFGHIJKLMNOPQRSTUVWXYZ", 10)})


def is_iban(compact: str) -> bool:
    """Return whether `compact`, upper case without separators, is an IBAN (ISO 7064 mod 97-10, then structure)."""
    return (
        len(compact) == _LENGTHS.get(compact[:2], 0)
        and _adds_up(compact)
        and bool(iban.is_valid(compact, check_country=False))
    )


def _adds_up(compact: str) -> bool:
    number = (compact[4:] + compact[:4]).translate(_VALUES)
    return number.isdigit() and int(number) % 97 == 1


class Ibans:
    """The recogniser of IBANs, glued or in groups; what follows the number is left alone."""

    types = ("IBAN_CODE",)
    triggers = (r"(?i)[A-Z]{2}[ \-]?[0-9][ \-]?[0-9]",)
    long = False
    positives = (("IBAN_CODE", "DE89 3704 0044 0532 0130 00"), ("IBAN_CODE", "ibanGB82WEST12345698765432"))

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every IBAN; tried at each country code followed by two digits."""
        questions = 0
        for digits in paced(_START.finditer(text), check):
            at = digits.start() - (2 if text[digits.start() - 1].isalpha() else 3)
            length = _LENGTHS.get(text[at : at + 2].upper(), 0)
            body = _BODY.match(text, at) if length else None
            if body is None:
                continue
            compact = body.group().translate(_SEPARATORS)[:length].upper()
            if len(compact) < length or not _adds_up(compact):
                continue
            questions += 1
            if questions > _QUESTIONS or is_iban(compact):
                end = at + length
                while len(text[at:end].translate(_SEPARATORS)) < length:
                    end += 1
                yield Finding("IBAN_CODE", at, end, 1.0)


_SIGNS = re.compile(r"[^0-9A-Za-z]")


def _fiscal(match: re.Match[str]) -> tuple[int, int] | None:
    compact = _SIGNS.sub("", match.group()).upper()
    return match.span() if is_fiscal_code(compact) else None


FISCAL_CODE = Rule(
    "IT_FISCAL_CODE",
    (r"(?i)[A-Z][ \n]?[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}[ \n]?[A-Z][0-9LMNPQRSTUV]{3}",),
    re.compile(
        r"(?<![0-9])(?<![A-Za-z]{3})[A-Z]{3}[ \n]?[A-Z]{3}[ \n]?[0-9LMNPQRSTUV]{2}[ABCDEHLMPRST][0-9LMNPQRSTUV]{2}"
        r"[ \n]?[A-Z][0-9LMNPQRSTUV]{3}[ \n]?[A-Z](?![0-9])",
        re.IGNORECASE,
    ),
    ("RCCMNL83S18D969H",),
    _fiscal,
    1.0,
)


def _nif(match: re.Match[str]) -> tuple[int, int] | None:
    compact = _SIGNS.sub("", match.group()).upper()
    return match.span() if is_nif(compact) and compact[:8] != "00000000" else None


NIF = Rule(
    "ES_NIF",
    (r"(?i)[0-9XYZ][ \-]?[0-9.]{7,9}[ \-\n]?[A-Z]",),
    re.compile(
        r"(?<![0-9.\-])(?:[XYZ][ \-]?[0-9]{7}|[0-9]{8}|[0-9]{2}\.[0-9]{3}\.[0-9]{3})[ \-\n]?[A-Z](?![0-9A-Za-z])",
        re.IGNORECASE,
    ),
    ("12345678Z", "X-1234567-L"),
    _nif,
    0.95,
)
