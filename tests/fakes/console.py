"""A whole console without a port: its real routes, guard and login over a store in memory and an issuer that lies."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
from aiohttp import web
from fakes.desk import Table
from fakes.issuer import FakeIssuer

from rankgate.clients.identity import Verifier
from rankgate.clients.jwks import JwksClient
from rankgate.clients.openid import OpenId
from rankgate.console.app import application
from rankgate.console.guard import origin_of
from rankgate.console.login import Login
from rankgate.console.people import Person
from rankgate.console.sessions import Sessions
from rankgate.console.settings import ConsoleSettings
from rankgate.console.site import CALLBACK, Site
from rankgate.console.tokens import person_by_token

__all__ = ["AUDIENCE", "ORIGIN", "PeopleIssuer", "Running", "problem", "running"]

ORIGIN = "http://127.0.0.1:8090"
AUDIENCE = "https://approvals.example"
APPROVER = {"groups": ["approvers"], "email": "ada@acme.example", "preferred_username": "ada"}


class PeopleIssuer(FakeIssuer):
    """Issues tokens of people. `id_claims` and `id_header` change the next ID tokens; None leaves a member out."""

    def __init__(self, **options: Any) -> None:
        super().__init__("people", **options)
        self.nonce = ""
        self.id_claims: dict[str, Any] = {}
        self.id_header: dict[str, Any] = {}
        self.answer: dict[str, Any] = {}
        self.token_status = 200
        self.forms: list[dict[str, Any]] = []
        self.said: dict[str, Any] = {}
        self.metadata: dict[str, Any] = {}

    async def start(self, *args: Any, **options: Any) -> None:
        await super().start(*args, **options)
        self.metadata = {
            "authorization_endpoint": f"{self.url}/authorize",
            "userinfo_endpoint": f"{self.url}/userinfo",
            "end_session_endpoint": f"{self.url}/logout",
            "authorization_response_iss_parameter_supported": True,
        }

    def routes(self) -> list[web.RouteDef]:
        return [*super().routes(), web.get("/userinfo", self.userinfo)]

    def id_token(self) -> str:
        """Return an ID token of ada, as the changes have it."""
        usual = {
            "sub": "ada", "aud": "console", "nonce": self.nonce, "client_id": None, "jti": None,
            "auth_time": int(time.time()), **APPROVER,
        }  # fmt: skip
        return self.forge({"typ": "JWT", **self.id_header}, **(usual | self.id_claims))

    def access_token(self, **claims: Any) -> str:
        """Return an access token of ada for the API."""
        usual = {"sub": "ada", "aud": AUDIENCE, "client_id": "cli", "auth_time": int(time.time()), **APPROVER}
        return self.forge(None, claims.pop("key", None), **(usual | claims))

    async def token(self, request: web.Request) -> web.StreamResponse:
        self.forms.append({**await request.post(), "authorization": request.headers.get("authorization", "")})
        if self.fault is not None:
            return await self._broken(self.fault, request)
        answer = {"id_token": self.id_token(), "access_token": "opaque", "token_type": "Bearer"}
        return web.json_response(answer | self.answer, status=self.token_status)

    async def userinfo(self, _: web.Request) -> web.StreamResponse:
        return web.json_response(self.said)


@dataclass
class Running:
    """A console, what it stands on, and browsers for it."""

    settings: ConsoleSettings
    issuer: PeopleIssuer
    table: Table
    app: Any
    sessions: Sessions

    def browser(self, **options: Any) -> httpx.AsyncClient:
        """Return a browser of nobody yet."""
        transport = httpx.ASGITransport(app=self.app, raise_app_exceptions=False)
        return httpx.AsyncClient(transport=transport, base_url=self.settings.origin, **options)

    def api(self, token: str | None = None) -> httpx.AsyncClient:
        """Return a program with a token, ada's unless told otherwise."""
        token = self.issuer.access_token() if token is None else token
        return self.browser(headers={"authorization": f"Bearer {token}"})

    async def begun(self, browser: httpx.AsyncClient, query: str = "") -> dict[str, str]:
        """Begin a login; return what the issuer is asked."""
        answer = await browser.get(f"/login{query}")
        assert answer.status_code == 303, answer.text
        asked = parse_qs(urlsplit(answer.headers["location"]).query)
        found = {name: value[0] for name, value in asked.items()}
        self.issuer.nonce = found["nonce"]
        return found

    async def log_in(self, browser: httpx.AsyncClient, **claims: Any) -> httpx.Response:
        """Log in, as ada unless `claims` say otherwise; return the answer to the issuer's answer."""
        asked = await self.begun(browser)
        self.issuer.id_claims = claims
        query = {"code": "abc", "state": asked["state"], "iss": self.issuer.url}
        return await browser.get(CALLBACK, params=query)


@asynccontextmanager
async def running(
    *,
    login: dict[str, Any] | None = None,
    origin: str = ORIGIN,
    table: Table | None = None,
    secret: str | None = "s3cret:/",
    **changes: Any,
) -> AsyncIterator[Running]:
    """Yield a console whose issuer runs on a port of its own. The clock of the desk is the machine's."""
    async with PeopleIssuer() as issuer:
        now_ms = time.time_ns() // 1_000_000
        table = table or Table(now_ms=now_ms)
        settings = ConsoleSettings.model_validate(
            {
                "public_url": origin, "vote_key_file": "/nonexistent/key.pem",
                "state": {"redis_url": "redis://127.0.0.1:1"}, "journal": {"directory": "/nonexistent"},
                "roles": {"view": ["viewers"], "operate": ["operators"]},
                "login": {
                    "issuer": issuer.url, "client_id": "console", "cli_client_id": "cli", "audience": AUDIENCE,
                    "insecure_http": True, **(login or {}),
                },
                **changes,
            }
        )  # fmt: skip
        openid = OpenId(issuer.url, "console", secret, f"{origin}{CALLBACK}", insecure_http=True)
        terms = settings.login.token_issuer()
        jwks = JwksClient(terms)
        verifier = Verifier([terms], source=lambda _: jwks)
        await verifier.start()
        sessions = Sessions(secure=settings.scheme == "https", longest_s=settings.session_s, idle_s=settings.idle_s)

        async def by_token(headers: list[bytes]) -> Person:
            return await person_by_token(headers, verifier, settings.login, settings.roles, time.time())

        async def ready() -> bool:
            return await table.store.ready()

        try:
            app = application(
                Site(desk=table.desk, settings=settings), sessions=sessions,
                login=Login(settings, openid, jwks, sessions, table.journal), by_token=by_token, ready=ready,
                leaves_for=lambda: origin_of(openid.end_session),
            )  # fmt: skip
            yield Running(settings, issuer, table, app, sessions)
        finally:
            await verifier.stop()


def problem(answer: httpx.Response) -> tuple[int, str]:
    """Return status and code of a refusal at the API."""
    assert answer.headers["content-type"] == "application/problem+json", answer.text
    found = json.loads(answer.text)
    assert found["status"] == answer.status_code
    return answer.status_code, found["code"]
