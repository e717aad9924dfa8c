"""Masking: what is masked and how (a plan), the keys it needs, and the masking of one text.

Pure: key bytes and findings are arguments. The input is never edited in place, and outside of the findings the
output equals it, with one exception: text shaped like one of our pseudonyms is escaped, so that nobody can write
somebody else's. Masked values are pseudonymised, not anonymous: whoever holds the key can test a guess.
"""

from __future__ import annotations

import base64
import hmac
import ipaddress
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache, partial
from types import MappingProxyType
from typing import Self, cast, get_args

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from rankgate.detect.finding import Finding, union
from rankgate.detect.pace import Check, paced, unhurried
from rankgate.detect.phones import e164
from rankgate.detect.tokens import CODE, EMAIL_DOMAIN, KNOWN, is_pseudonym
from rankgate.detect.view import folded, plain
from rankgate.errors import GateError, Reason, SettingsError
from rankgate.settings import STRUCTURED_TYPES, Operator, ProfileSettings

__all__ = [
    "Keys",
    "Masker",
    "Maskers",
    "Plan",
    "is_pseudonym",
    "is_tighter_or_equal",
    "keyed_digest",
    "may_escape",
    "tighten",
]

_STRICTNESS: Mapping[str, int] = {"partial": 0, "pseudonym": 1, "hash": 2, "redact": 3}
_TYPE = re.compile(r"[A-Z]{2,32}(?:_[A-Z]{2,32}){0,4}")
_SHORTEST_KEY = 32
_TENANTS = 4096
# Types whose findings are never shown in part: a few characters of a secret help to guess it.
_SECRETS = frozenset({"API_KEY", "JWT", "PRIVATE_KEY", "URL_CREDENTIALS"})
_SHOWN = 4
# Replacements a masker remembers, each of a value of at most so many characters.
# Together some megabytes a masker at the very most.
_MASKERS = 8
_REMEMBERED = 1024
_LONGEST_REMEMBERED = 512
_MOST_FINDINGS_REMEMBERED = 8

Token = Callable[[str], str]
Renderer = Callable[[str, Token], str]


@dataclass(frozen=True, slots=True)
class Plan:
    """Which types are masked, each with its operator. Types it does not name pass."""

    operators: Mapping[str, Operator]
    text: str = field(init=False, repr=False, compare=False)
    """`operator:TYPE,TYPE;operator:TYPE`, sorted, so that equal plans have equal texts."""

    def __post_init__(self) -> None:
        """Write the text once: plans live as long as the settings, and each call asks for it several times."""
        names: dict[str, list[str]] = {}
        for name, operator in sorted(self.operators.items()):
            names.setdefault(operator, []).append(name)
        text = ";".join(f"{operator}:{','.join(names[operator])}" for operator in sorted(names))
        object.__setattr__(self, "text", text)

    @classmethod
    def of(cls, profile: ProfileSettings) -> Self:
        """Return the plan a profile asks for."""
        return cls._sorted({name: profile.operators.get(name, profile.operator) for name in profile.types})

    @classmethod
    def none(cls) -> Self:
        """Return the plan that masks nothing."""
        return cls(MappingProxyType({}))

    @classmethod
    @lru_cache(maxsize=256)
    def from_text(cls, text: str) -> Self:
        """Read a plan's text; anything else raises GateError(HANDOFF_MISMATCH)."""
        operators: dict[str, Operator] = {}
        for part in text.split(";") if text else ():
            operator, colon, names = part.partition(":")
            if operator not in get_args(Operator) or not colon:
                raise GateError(Reason.HANDOFF_MISMATCH, "masking plan")
            for name in names.split(","):
                if name in operators or _TYPE.fullmatch(name) is None:
                    raise GateError(Reason.HANDOFF_MISMATCH, "masking plan")
                operators[name] = cast("Operator", operator)
        plan = cls._sorted(operators)
        if plan.text != text:
            raise GateError(Reason.HANDOFF_MISMATCH, "masking plan")
        return plan

    @classmethod
    def _sorted(cls, operators: Mapping[str, Operator]) -> Self:
        return cls(MappingProxyType(dict(sorted(operators.items()))))

    def __hash__(self) -> int:
        return hash(self.text)


def tighten(one: Plan, other: Plan) -> Plan:
    """Return the plan that masks what either masks, with the stricter operator: redact, hash, pseudonym, partial."""
    merged = dict(one.operators)
    for name, operator in other.operators.items():
        if name not in merged or _STRICTNESS[operator] > _STRICTNESS[merged[name]]:
            merged[name] = operator
    return Plan(MappingProxyType(dict(sorted(merged.items()))))


def is_tighter_or_equal(one: Plan, other: Plan) -> bool:
    """Return whether `one` masks every type of `other` at least as strictly."""
    return all(
        name in one.operators and _STRICTNESS[one.operators[name]] >= _STRICTNESS[operator]
        for name, operator in other.operators.items()
    )


def keyed_digest(key: bytes, data: bytes) -> str:
    """Return the HMAC-SHA-256 of `data` in hexadecimal."""
    return hmac.digest(key, data, "sha256").hex()


class Keys:
    """The keys of one deployment and epoch, each derived for one use (HKDF-SHA-256, RFC 5869).

    `master` holds at least 32 bytes, else SettingsError. No key of one use, tenant or epoch serves another.
    """

    __slots__ = ("_derived", "_epoch", "_master")

    def __init__(self, master: bytes, epoch: str) -> None:
        if len(master) < _SHORTEST_KEY:
            raise SettingsError(f"masking.key_file must hold at least {_SHORTEST_KEY} random bytes")
        self._master = master
        self._epoch = epoch
        self._derived: dict[tuple[str, str], bytes] = {}

    def __repr__(self) -> str:
        return "Keys(***)"

    def pseudonym(self, tenant: str) -> bytes:
        """Return the key of `tenant`'s pseudonyms."""
        return self._key("pseudonym", tenant)

    def digest(self, tenant: str) -> bytes:
        """Return the key of digests that leave the process: body, audit, labels."""
        return self._key("audit-digest", tenant)

    def approval(self) -> bytes:
        """Return the key of what approvals are bound to, and of what gates write about them."""
        return self._key("approval", "")

    def lease(self) -> bytes:
        """Return the key of lease fingerprints."""
        return self._key("lease", "")

    def _key(self, use: str, tenant: str) -> bytes:
        key = self._derived.get((use, tenant))
        if key is None:
            parts = [part.encode("utf-8", "surrogatepass") for part in (use, self._epoch, tenant)]
            info = b"rankgate/1" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
            key = HKDF(algorithm=SHA256(), length=32, salt=None, info=info).derive(self._master)
            if len(self._derived) >= _TENANTS:
                self._derived.clear()
            self._derived[use, tenant] = key
        return key


class Masker:
    """Masks texts of one tenant by one plan.

    `phone_regions` let a national and an international writing of a number share a pseudonym. `renderers` give a
    type a pseudonym form of its own: a function of the value and of `token`, which turns one canonical word into
    `TYPE_<code>`; names use it for a pseudonym per word. With `remembers` it keeps short texts that were masked lately.
    Safe to share between threads.
    """

    __slots__ = ("_key", "_most", "_plan", "_regions", "_remembered", "_renderers")

    def __init__(
        self,
        keys: Keys,
        tenant: str,
        plan: Plan,
        *,
        phone_regions: Sequence[str] = (),
        renderers: Mapping[str, Renderer] = MappingProxyType({}),
        remembers: bool = True,
    ) -> None:
        self._most = _REMEMBERED if remembers else 0
        self._key = keys.pseudonym(tenant)
        self._plan = plan
        self._regions = tuple(phone_regions)
        self._renderers = renderers
        self._remembered: dict[tuple[str, tuple[Finding, ...]], str] = {}

    @property
    def plan(self) -> Plan:
        """Return what this masks."""
        return self._plan

    def mask(self, text: str, findings: Sequence[Finding], *, check: Check | None = None) -> str:
        """Return `text` with the findings the plan names replaced, and look-alike pseudonyms escaped.

        Of overlapping findings the union is masked, with the strictest operator; spans that do not fit `text` raise
        GateError(HANDOFF_MISMATCH). A replacement is set off by a space where it would touch a letter or digit.
        `check` is called every few milliseconds of work; a GateError it raises ends the work and passes through.
        """
        if not findings and not may_escape(text):
            return text
        key = text, tuple(findings)
        known = self._remembered.get(key)
        if known is None:
            known = self._mask(text, findings, check or unhurried)
            if self._most and len(text) <= _LONGEST_REMEMBERED and len(findings) <= _MOST_FINDINGS_REMEMBERED:
                if len(self._remembered) >= self._most:
                    self._remembered.clear()
                self._remembered[key] = known
        return known

    def _mask(self, text: str, findings: Sequence[Finding], check: Check) -> str:
        if not findings:
            return self._escape(text, check)
        if any(not 0 <= one.start < one.end <= len(text) for one in findings):
            raise GateError(Reason.HANDOFF_MISMATCH, "spans do not fit the text")
        operators = self._plan.operators
        planned = union(
            Finding(name, one.start, one.end, one.score) for one in findings for name in one.types if name in operators
        )
        out: list[str] = []
        done = 0
        for finding in paced(planned, check):
            operator = max((operators[name] for name in finding.types), key=_STRICTNESS.__getitem__)
            self._copy(out, text[done : finding.start], check)
            replacement = self._replace(operator, finding.type, text[finding.start : finding.end])
            before = out[-1][-1:] if out else ""
            after = text[finding.end : finding.end + 1]
            out.append(f"{' ' if _joins(before) else ''}{replacement}{' ' if _joins(after) else ''}")
            done = finding.end
        if not out:
            return self._escape(text, check)
        self._copy(out, text[done:], check)
        return "".join(out)

    def escapes(self, text: str, *, check: Check | None = None) -> bool:
        """Tell whether `mask` would change `text` even without a finding: for a look-alike of a pseudonym."""
        return may_escape(text) and self.mask(text, (), check=check) != text

    def _copy(self, out: list[str], piece: str, check: Check) -> None:
        if piece:
            out.append(self._escape(piece, check))

    def _replace(self, operator: Operator, name: str, value: str) -> str:
        if operator == "redact":
            return f"<{name}>"
        if operator == "partial":
            return _partial(name, value)
        if operator == "hash":
            return f"{name}_h_{self._code('h', name, value)}"

        def token(word: str) -> str:
            return f"{name}_{self._code('p', name, word)}"

        renderer = self._renderers.get(name)
        if renderer is not None:
            return renderer(value, token)
        written = token(_canonical(name, value, self._regions))
        return f"{written}@{EMAIL_DOMAIN}" if name == "EMAIL_ADDRESS" else written

    def _code(self, use: str, name: str, word: str) -> str:
        """Return 65 bits of keyed hash as 13 characters, never with five digits in a row (see detect.tokens)."""
        for attempt in range(256):
            data = f"{use}{attempt}\0{name}\0{word}".encode("utf-8", "surrogatepass")
            digest = hmac.digest(self._key, data, "sha256")[:10]
            code = base64.b32encode(digest).decode("ascii").lower()[:13]
            if _CODE.fullmatch(code) is not None:
                return code
        raise GateError(Reason.INTERNAL, "no code")  # one in 2^2000

    def _escape(self, text: str, check: Check) -> str:
        """Return `text` with every look-alike of a pseudonym or keyed hash replaced by `TYPE_x_<code>`."""
        if not may_escape(text):
            return text
        view = plain(text)
        if not text.isascii():
            view = folded(view)
        if "_" not in view.text:
            return text
        guarded = _guarded(tuple(self._plan.operators))
        out: list[str] = []
        done = 0
        for tail in paced(_TAIL.finditer(view.text), check):
            at = tail.start()
            name = next((one for one in guarded if _ends_with(view.text, at, one)), None)
            if name is not None:
                start, end = view.locate(at - len(name), tail.end())
                code = self._code("x", name, tail.group().lower())
                out += (text[done:start], f"{name}_x_{code}")
                done = end
        return "".join((*out, text[done:])) if out else text


class Maskers:
    """The maskers of a deployment, one for each tenant and plan; those used last are kept. Safe to share.

    `remembers` lets them keep texts, which a deployment that remembers no findings does not want either.
    """

    def __init__(self, keys: Keys, phone_regions: Sequence[str], *, remembers: bool) -> None:
        make = partial(Masker, keys, phone_regions=tuple(phone_regions), remembers=remembers)
        self._of = lru_cache(maxsize=_MASKERS)(make)

    def of(self, tenant: str, plan: Plan) -> Masker:
        """Return what masks `tenant`'s texts by `plan`."""
        return self._of(tenant, plan)


def may_escape(text: str) -> bool:
    """Tell whether `text` could hold a look-alike of a pseudonym; for one that could, telling takes time."""
    return "_" in text or not text.isascii()


@lru_cache(maxsize=256)
def _guarded(names: tuple[str, ...]) -> tuple[str, ...]:
    """Return the types whose look-alikes are escaped, longest first, so that none hides behind its own ending."""
    return tuple(sorted({*KNOWN, *names}, key=len, reverse=True))


_CODE = re.compile(CODE)
# In any case and with anything before the type, as rerankers lower and cut at will.
_TAIL = re.compile(r"_(?:h_)?[a-z2-7]{13}(?![a-z0-9])", re.IGNORECASE)


def _ends_with(text: str, at: int, name: str) -> bool:
    """Return whether `name`, in any case, stands right before `text[at]`."""
    return at >= len(name) and text[at - len(name) : at].upper() == name


def _joins(character: str) -> bool:
    return character.isalnum() or character == "_"


def _canonical(name: str, value: str, regions: Sequence[str]) -> str:
    """Return the one form of all writings of a value."""
    read = folded(plain(value)).text.strip()
    if name in _SECRETS:
        return read
    if name == "EMAIL_ADDRESS":
        return read.casefold() if _APART.search(read) is None else "".join(_email(read))
    if name == "PHONE_NUMBER":
        return e164(read, regions) or _NO_PHONE.sub("", read.lower())
    if name == "IP_ADDRESS":
        try:
            return str(ipaddress.ip_address(read))
        except ValueError:
            return read.casefold()
    if name in STRUCTURED_TYPES:
        return _NO_CODE.sub("", read.casefold()) or read
    return " ".join(read.casefold().split())


_NO_PHONE = re.compile(r"[^0-9+x]")
_NO_CODE = re.compile(r"[^0-9a-z]")
_APART = re.compile(r"[\s\[({<]")
_SPELLED = re.compile(r"\s*[\[({<]\s?(at|@|arroba|dot|\.|punto|punkt|point)\s?[\])}>]\s*|\s+(at|dot)\s+", re.IGNORECASE)


def _email(read: str) -> Iterator[str]:
    """Yield the pieces of an address in lower case, spelled-out signs put back and spaces dropped."""
    done = 0
    for match in _SPELLED.finditer(read):
        yield re.sub(r"\s", "", read[done : match.start()]).casefold()
        yield "@" if (match.group(1) or match.group(2)).lower() in {"at", "@", "arroba"} else "."
        done = match.end()
    yield re.sub(r"\s", "", read[done:]).casefold()


def _partial(name: str, value: str) -> str:
    """Return stars and at most four characters of `value`, and never more than a third of its own."""
    own = [character for character in value if character.isalnum()]
    shown = 0 if name in _SECRETS else min(_SHOWN, len(own) // 3)
    if shown == 0:
        return "****"
    if name != "EMAIL_ADDRESS":
        return "****" + "".join(own[-shown:])
    last = value.rpartition(".")[2]
    return f"{own[0]}***@***.{last}" if last.isalpha() and 1 + len(last) <= shown else f"{own[0]}***@***"
