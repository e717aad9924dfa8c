"""Secrets of machines: API keys by their issuers' prefixes, assignments of passwords, JSON Web Tokens, PEM keys."""

from __future__ import annotations

import base64
import binascii
import json
import re
from bisect import bisect_left
from collections.abc import Iterator

from rankgate.detect.context import Words
from rankgate.detect.finding import Finding
from rankgate.detect.pace import Check, paced, unhurried
from rankgate.detect.recognizer import Rule, whole

__all__ = ["API_KEYS", "Assignments", "JsonWebTokens", "PrivateKeys"]

# Every example is put together here, so that no secret scanner takes this file for a leak.
_A = "aB3dE5fG7hJ9kL2mN4pQ6rS8tU0vW1xY3zA5bC7d"
_HEX = "0123456789abcdef0123456789abcdef"


def _mixed(match: re.Match[str]) -> tuple[int, int] | None:
    """Accept a key that mixes letters and digits, unlike words joined by dashes."""
    body = match.group()
    letters = sum(character.isalpha() for character in body)
    digits = sum(character.isdigit() for character in body)
    return match.span() if letters >= 3 and digits >= 3 else None


def _key(trigger: str, pattern: str, example: str, *, mixed: bool = False) -> Rule:
    return Rule("API_KEY", (trigger,), re.compile(pattern), (example,), _mixed if mixed else whole)


# With letters glued to it only an unbroken key counts: "task-" and "desk-" start many a dashed name.
_SK = r"(?<![0-9A-Za-z])sk-[0-9A-Za-z_\-]{20,250}|sk-(?:proj-|ant-[0-9a-z]{2,8}-|or-v1-)?[0-9A-Za-z]{20,250}"
_SHORT = r"hvs\.|dckr_pat_|glsa_|lin_api_|pcsk_|gsk_|jina_|pplx-|dapi|NRAK-|PMAK-|AGE-SECRET-KEY-"
API_KEYS: tuple[Rule, ...] = (
    _key("A(?:KIA|SIA)", r"A(?:KIA|SIA)[0-9A-Z]{16}", "AKI" + "A" + "Q3EGX7ZP5LMN2RST"),
    _key("gh[pousr]_", r"gh[pousr]_[0-9A-Za-z]{30,255}", "gh" + "p_" + _A),
    _key("github_pat_", r"github_pat_[0-9A-Za-z_]{22,255}", "github" + "_pat_" + _A),
    _key("xox[abeoprs]-|xapp-", r"(?:xox[abeoprs]|xapp)-[0-9A-Za-z\-]{10,250}", "xox" + "b-" + "123456789012-" + _A),
    _key("[srp]k_(?:live|test)_|whsec_", r"(?:[srp]k_(?:live|test)|whsec)_[0-9A-Za-z]{16,250}", "sk" + "_live_" + _A),
    _key("sk-", _SK, "sk" + "-proj-" + _A, mixed=True),
    _key("AIza", r"AIza[0-9A-Za-z_\-]{35}", "AI" + "za" + _A[:35]),
    _key("ya29\\.|GOCSPX-", r"(?:ya29\.|GOCSPX-)[0-9A-Za-z_\-]{20,250}", "ya" + "29." + _A),
    _key(
        "gl(?:pat|dt|rt|ptt|soat|cbt)-", r"gl(?:pat|dt|rt|ptt|soat|cbt)-[0-9A-Za-z_\-]{20,250}", "gl" + "pat-" + _A[:20]
    ),
    _key("npm_", r"npm_[0-9A-Za-z]{36}", "np" + "m_" + _A[:36]),
    _key("hf_", r"hf_[0-9A-Za-z]{30,100}", "h" + "f_" + _A[:34]),
    _key("SG\\.", r"SG\.[0-9A-Za-z_\-]{16,64}\.[0-9A-Za-z_\-]{16,64}", "S" + "G." + _A[:22] + "." + _A),
    _key("(?:SK|AC)[0-9a-f]{4}", r"(?:SK|AC)[0-9a-f]{32}(?![0-9A-Za-z])", "S" + "K" + _HEX),
    _key("pypi-", r"pypi-[0-9A-Za-z_\-]{40,255}", "py" + "pi-" + _A, mixed=True),
    _key("do[opr]_v1_", r"do[opr]_v1_[0-9a-f]{64}", "do" + "p_v1_" + 2 * _HEX),
    _key("shp(?:at|ca|pa|ss)_", r"shp(?:at|ca|pa|ss)_[0-9A-Fa-f]{32}", "shp" + "at_" + _HEX),
    _key(_SHORT, rf"(?:{_SHORT})[0-9A-Za-z_\-]{{20,250}}", "gs" + "k_" + _A, mixed=True),
    _key(
        "hooks\\.slack\\.com/services/",
        r"hooks\.slack\.com/services/[0-9A-Za-z/]{20,100}",
        "hooks.slack.com/" + "services/T0AB12CD3/B0EF45GH6/" + _A[:24],
    ),
    _key("[0-9]:AA", r"(?<![0-9])[0-9]{8,10}:AA[0-9A-Za-z_\-]{33}", "123456789:" + "AA" + _A[:33]),
    _key(
        "AccountKey=|SharedAccessKey=",
        r"(?:AccountKey|SharedAccessKey)=[0-9A-Za-z+/]{40,100}={0,2}",
        "Account" + "Key=" + _A + _A,
    ),
)

_NAMES = (
    r"(?:api[_\- ]?key|apikey|api[_\- ]?token|access[_\- ]?key|secret[_\- ]?key|client[_\- ]?secret|secret|"
    r"auth[_\- ]?token|access[_\- ]?token|refresh[_\- ]?token|token|passw(?:or)?d|passphrase|pwd|private[_\- ]?key|"
    r"credentials?|passwort|kennwort|mot de passe|contrasena)"
)
_ASSIGNED = Words(rf"{_NAMES}[\"'\]`*]{{0,3}}(?:\s{{0,3}}(?:=>|:=|=|:|\bis\b)\s{{0,3}}[\"'`*]{{0,3}}|\s{{1,2}}[\"'`])")
_VALUE = re.compile(r"[^\s\"'`,;<>(){}\[\]]{8,512}")
_SCHEME = Words(r"\b(?:Bearer|Basic|Token)\s{1,3}")
_CREDENTIAL = re.compile(r"[0-9A-Za-z._~+/\-]{16,2048}={0,2}")


class Assignments:
    """The recogniser of `password = ...` and of Authorization values; only the value is found."""

    types = ("API_KEY",)
    triggers = (
        rf"(?i){_NAMES}[\"'\]`*]*\s*(?:[=:\"'`]|is\s)",
        r"(?:Bearer|Basic|Token)\s",
    )
    long = True
    positives = (
        ("API_KEY", "api_key = " + _A[:24]),
        ("API_KEY", "password: Tr0ub4dor" + "&3x"),
        ("API_KEY", "Authorization: Bearer " + _A),
    )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every value that looks chosen or drawn rather than written."""
        for words, value, score in ((_ASSIGNED, _VALUE, 0.8), (_SCHEME, _CREDENTIAL, 0.85)):
            for _, start in paced(words.each(text), check):
                match = value.match(text, start)
                if match is not None:
                    secret = match.group().rstrip(".!?*")
                    if _unwordly(secret):
                        yield Finding("API_KEY", start, start + len(secret), score)


def _unwordly(value: str) -> bool:
    """Return whether `value` mixes kinds of characters the way secrets do and words, numbers and paths do not."""
    if len(value) < 8 or "://" in value or "@" in value:
        return False
    sample = value[:_SAMPLE]
    cases = (sample != sample.upper()) + (sample != sample.lower())
    digit = _DIGIT.search(sample) is not None
    other = _SIGN.search(sample) is not None or _CLASH.search(sample) is not None
    return cases > 0 and len(set(sample)) >= 6 and digit + other + (cases == 2) >= (1 if digit else 2)


_SAMPLE = 64
_DIGIT = re.compile(r"[0-9]")
_SIGN = re.compile(r"[^\w\-./:]")
_CLASH = re.compile(r"[A-Z]{4}_[a-z]{4}|[a-z]{4}_[A-Z]{4}")
_TOKEN = re.compile(r"(?<![0-9A-Za-z_\-])[0-9A-Za-z_\-]{10,}+(?:\.[0-9A-Za-z_\-]*+){1,4}")


class JsonWebTokens:
    """The recogniser of JSON Web Tokens (RFC 7519 section 3), unsigned, cut and encrypted ones included."""

    types = ("JWT",)
    triggers = (r"eyJ",)
    long = True
    positives = (("JWT", "eyJhbGciOiJIUzI1NiJ9" + ".eyJzdWIiOiIxMjM0In0." + _A),)

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every run of dotted base64url whose first part is a header, glued prefixes taken off."""
        for match in paced(_TOKEN.finditer(text), check):
            head = match.group().partition(".")[0]
            at = head.find("eyJ")
            for _ in range(3):
                if at < 0:
                    break
                if _is_header(head[at:]):
                    yield Finding("JWT", match.start() + at, match.end(), 1.0)
                    break
                at = head.find("eyJ", at + 1)


def _is_header(part: str) -> bool:
    if len(part) > 4096:
        return True
    try:
        header = json.loads(base64.urlsafe_b64decode(part + "=" * (-len(part) % 4)))
    except (binascii.Error, ValueError, RecursionError):
        return False
    return isinstance(header, dict) and bool({"alg", "typ", "enc", "kid"} & header.keys())


_BEGIN = re.compile(r"-----BEGIN ?(?:[A-Z0-9]{1,12} ?){0,3}PRIVATE ?KEY(?: ?BLOCK)?-----")
_END = re.compile(r"-----END ?(?:[A-Z0-9]{1,12} ?){0,3}PRIVATE ?KEY(?: ?BLOCK)?-----")
_CONTENT = re.compile(
    r"(?:(?:\s|\\[rn])*+(?:[0-9A-Za-z+/=]{16,}+|[A-Za-z\-]{2,20}: [^\n]{0,200}(?=\n)))*+"
    r"(?:(?:\s|\\[rn])*+[0-9A-Za-z+/=]{1,15}+(?=\s*+$))?"
)
_BLOCK = 16_384
# What follows so many keys in one text is taken for more of them.
_MOST_BLOCKS = 256


class PrivateKeys:
    """The recogniser of PEM private keys: the whole block, or what there is of one that was cut."""

    types = ("PRIVATE_KEY",)
    triggers = (r"-----BEGIN[A-Z0-9 ]*PRIVATE ?KEY",)
    long = True
    positives = (
        ("PRIVATE_KEY", "-----BEGIN PRIVATE" + " KEY-----\nMIIEvQIBADANBgkqhkiG\n-----END PRIVATE" + " KEY-----"),
        ("PRIVATE_KEY", "-----BEGIN EC PRIVATE" + " KEY-----\nMHcCAQEEIIGlRFa"),
    )

    def find(self, text: str, check: Check = unhurried) -> Iterator[Finding]:
        """Yield every block from its first to its last line."""
        reached = blocks = 0
        ends = [end.end() for end in paced(_END.finditer(text), check)]
        for begin in paced(_BEGIN.finditer(text), check):
            if begin.start() < reached:
                continue
            index = bisect_left(ends, begin.end())
            if index < len(ends) and ends[index] <= begin.end() + _BLOCK:
                reached = ends[index]
            else:
                content = _CONTENT.match(text, begin.end())
                reached = begin.end() if content is None else content.end()
                reached = begin.start() + len(text[begin.start() : reached].rstrip())
            blocks += 1
            if blocks > _MOST_BLOCKS:
                reached = len(text)
            yield Finding("PRIVATE_KEY", begin.start(), reached, 1.0)
