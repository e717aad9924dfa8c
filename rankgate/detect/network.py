"""Addresses of machines, and URLs that carry credentials."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator

from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried
from rankgate.detect.recognizer import Rule

__all__ = ["IP", "MAC", "CredentialUrls"]

_VERSIONED = re.compile(
    r"(?:\bv|version|release|\brev|revision|build|firmware|driver|kernel|section|sec\.|§|chapter|clause|article|"
    r"\bnumpy|\bsdk|[A-Za-z]/)[ .:=#(]{0,3}$",
    re.IGNORECASE,
)


_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_VERSION_FOUR = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{3}}")


def _address(match: re.Match[str]) -> tuple[int, int] | None:
    start, end = match.span()
    if ":" in match.group():
        start, end = _version_six(match)
    elif _VERSIONED.search(match.string, max(0, start - 16), start):
        return None
    address = match.string[start:end]
    if ":" not in address:
        return (start, end) if _VERSION_FOUR.fullmatch(address) else None
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return None
    return start, end


def _version_six(match: re.Match[str]) -> tuple[int, int]:
    """Return the span of an IPv6 address without what is glued to it, an empty one where it reads as something else."""
    found = match.group()
    start, end = match.span()
    if found.endswith(":") and not found.endswith("::"):
        end -= 1
    glued = match.string[start - 1 : start].isalpha()
    first = found.index(":")
    if first > 4:
        start, glued = start + first - 4, True
    address = match.string[start:end]
    # Fewer colons glued to a word are a name in some programming language.
    enough = address.count(":") >= (3 if glued else 2) and any(character.isdigit() for character in address)
    return (start, end) if enough else (start, start)


IP = Rule(
    "IP_ADDRESS",
    (
        r"[0-9]{1,3}\.[0-9]{1,3}\.[0-9]{1,3}\.[0-9]",
        r"(?i)[0-9A-F]{0,4}:[0-9A-F]{0,4}:[0-9A-F]{0,4}",
    ),
    re.compile(
        r"(?<![0-9.])(?<![0-9]-)(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?![0-9]|\.[0-9])"
        r"|(?<![0-9A-Fa-f:.])(?=[0-9A-Fa-f]{0,8}:)[0-9A-Fa-f:]{2,43}(?:\.[0-9]{1,3}){0,3}(?![0-9A-Za-z:])"
    ),
    ("host 203.0.113.77 is down", "2001:db8::8a2e:370:7334", "::ffff:203.0.113.9"),
    _address,
    0.95,
)


def _hardware(match: re.Match[str]) -> tuple[int, int] | None:
    found = match.group()
    # A date and time written with dashes has the same shape.
    return None if "-" in found and found.replace("-", "").isdigit() else match.span()


MAC = Rule(
    "MAC_ADDRESS",
    (r"(?i)[0-9A-F]{2}[:\-][0-9A-F]{2}[:\-][0-9A-F]{2}[:\-]", r"(?i)[0-9A-F]{4}\.[0-9A-F]{4}\.[0-9A-F]{4}"),
    re.compile(
        r"(?<![0-9A-Fa-f][:\-])(?<![0-9])(?:[0-9A-F]{2}(?P<mark>[:\-]))(?:[0-9A-F]{2}(?P=mark)){4}[0-9A-F]{2}(?![:\-]?[0-9A-F])"
        r"|(?<![0-9A-F.])[0-9A-F]{4}\.[0-9A-F]{4}\.[0-9A-F]{4}(?![.]?[0-9A-F])",
        re.IGNORECASE,
    ),
    ("00:1B:44:11:3a:b7", "00-1b-44-11-3a-b7", "001b.4411.3ab7"),
    _hardware,
    0.95,
)

_SCHEME = re.compile(r"[A-Za-z0-9+.\-]{1,15}[A-Za-z]")
_MARK = re.compile("://")
_REST = re.compile(r"://[^\s<>\"'`\\]{3,2048}")
_USERINFO = re.compile(r"://[^\s/?#@:]{0,128}:[^\s/?#@]{1,256}@[^\s/?#]")
_SECRET_PARAMETER = re.compile(
    r"[?&#;](?:[a-z0-9_.\-]{0,24}(?:api_?key|apikey|access_?key|secret|token|passw(?:or)?d|pwd|signature|credential)"
    r"[a-z0-9_\-]{0,12}|sig|key|auth|code|x-amz-signature)=(?P<value>[^&#\s]{6,})",
    re.IGNORECASE,
)


class CredentialUrls:
    """The recogniser of URLs with a password before the host or a secret in a parameter; the whole URL is found."""

    types = ("URL_CREDENTIALS",)
    triggers = (
        r"://[^\s/?#@]+@",
        r"://[^\s]+[?&#;][^\s]+=",
    )
    long = True
    positives = (
        ("URL_CREDENTIALS", "postgres://app:s3cret" + "@db.example.org:5432/app"),
        ("URL_CREDENTIALS", "https://api.example.org/v1?api_key=" + "9f8e7d6c5b4a"),
    )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every URL that carries credentials."""
        done = 0
        for mark in paced(_MARK.finditer(text), check):
            at = mark.start()
            if at < done:
                continue
            rest = _REST.match(text, at)
            done = mark.end() if rest is None else rest.end()
            scheme = _SCHEME.match(text[max(0, at - 16) : at][::-1])
            if rest is not None and scheme is not None:
                url = rest.group().rstrip(".,;:!?)]}*_")
                if _USERINFO.search(url) or _has_secret(url):
                    yield Finding("URL_CREDENTIALS", at - scheme.end(), at + len(url), 0.95)


def _has_secret(url: str) -> bool:
    """Return whether a parameter named like a secret has a value that looks like one."""
    for parameter in _SECRET_PARAMETER.finditer(url):
        value = parameter.group("value")
        if any(character.isdigit() for character in value) or len(value) >= 16:
            return True
    return False
