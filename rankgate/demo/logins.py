"""People of a development issuer: whoever picks a name on its page is that person. For nothing but development."""

from __future__ import annotations

import base64
import hashlib
import html
import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode, urlsplit

from aiohttp import web

from rankgate.settings.base import is_loopback

__all__ = ["DEMO_PEOPLE", "DevPerson", "Logins"]

CODE_CHARS = 64
MOST_CODES = 100


@dataclass(frozen=True, slots=True)
class DevPerson:
    """A person one can log in as, and what the tokens say about it."""

    name: str
    groups: tuple[str, ...]
    about: str

    def claims(self, now: int) -> dict[str, Any]:
        """Return what an access token says of the person, who logged in at `now` (seconds since 1970)."""
        mail = f"{self.name}@acme.example"
        return {
            "sub": self.name, "preferred_username": self.name, "email": mail, "groups": list(self.groups),
            "auth_time": now,
        }  # fmt: skip


DEMO_PEOPLE = (
    DevPerson("ada", ("data-protection",), "may approve"),
    DevPerson("grace", ("data-protection",), "may approve, too"),
    DevPerson("finn", ("data-protection",), "owns fraud-svc, so others must approve for it"),
    DevPerson("otto", ("platform",), "runs things: may cancel, revoke, close reviews"),
)


@dataclass(frozen=True, slots=True)
class _Code:
    person: DevPerson
    client: str
    redirect: str
    challenge: str
    nonce: str


class Logins:
    """The authorization code flow with PKCE (RFC 6749 section 4.1, RFC 7636), for clients on loopback."""

    def __init__(self, people: Iterable[DevPerson], mint: Callable[..., str], clock: Callable[[], float]) -> None:
        self._people = {person.name: person for person in people}
        self._mint = mint
        self._clock = clock
        self._codes: dict[str, _Code] = {}

    async def authorize(self, request: web.Request) -> web.StreamResponse:
        """Show who one can be, or send the browser back as the one that was picked."""
        asked = request.query
        back = urlsplit(asked.get("redirect_uri", ""))
        if (
            back.scheme != "http"
            or not is_loopback(back.hostname or "")
            or asked.get("code_challenge_method") != "S256"
        ):
            return web.Response(status=400, text="only for clients on this machine, with PKCE (S256)")
        person = self._people.get(asked.get("login", ""))
        if person is None:
            return web.Response(text=self._page(dict(asked)), content_type="text/html")
        while len(self._codes) >= MOST_CODES:
            self._codes.pop(next(iter(self._codes)))
        code = secrets.token_urlsafe(CODE_CHARS // 2)
        self._codes[code] = _Code(
            person, asked.get("client_id", ""), asked["redirect_uri"], asked.get("code_challenge", ""),
            asked.get("nonce", ""),
        )  # fmt: skip
        answer = urlencode({"code": code, "state": asked.get("state", "")})
        raise web.HTTPSeeOther(f"{asked['redirect_uri']}?{answer}")

    def redeem(self, code: str, client: str, redirect: str, verifier: str) -> dict[str, Any] | None:
        """Return the tokens for a code, once; None for any other."""
        known = self._codes.pop(code, None)
        digest = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode("ascii")
        if known is None or (known.client, known.redirect, known.challenge) != (client, redirect, digest):
            return None
        claims = known.person.claims(int(self._clock()))
        return {
            "access_token": self._mint(**claims, aud=client, client_id=client),
            "id_token": self._mint("JWT", **claims, aud=client, nonce=known.nonce, client_id=None),
            "token_type": "Bearer",
        }

    def _page(self, asked: dict[str, str]) -> str:
        rows = "".join(
            f'<p><a href="?{html.escape(urlencode({**asked, "login": person.name}))}">{html.escape(person.name)}</a>: '
            f"{html.escape(person.about)}</p>"
            for person in self._people.values()
        )
        return (
            '<!doctype html><html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">'
            "<title>Development issuer</title><style>body{font:16px/1.6 system-ui;margin:4rem auto;max-width:32rem;"
            "padding:0 1rem;color-scheme:light dark}</style><h1>Who are you?</h1>"
            f"<p>A development issuer: nobody asks for a password.</p>{rows}</html>"
        )
