"""From settings to a console that serves: its keys, its clients, its server, and an orderly end."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import ssl
import time
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import structlog
import uvicorn
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import load_pem_private_key
from prometheus_client import CollectorRegistry
from starlette.applications import Starlette

from rankgate.approvals import Opener, Signer, State, VoteKeys
from rankgate.clients.approvals import ApprovalStore
from rankgate.clients.identity import Verifier
from rankgate.clients.jwks import JwksClient
from rankgate.clients.metrics import new_registry
from rankgate.clients.openid import OpenId, read_secret
from rankgate.clients.probes import Health
from rankgate.clients.slot import Slot
from rankgate.clients.votekeys import read_public_keys
from rankgate.console.app import application
from rankgate.console.connection import Punctual
from rankgate.console.desk import Desk
from rankgate.console.guard import origin_of
from rankgate.console.journal import Journal
from rankgate.console.login import Login
from rankgate.console.people import Person
from rankgate.console.refusals import RefusedError
from rankgate.console.sessions import Sessions
from rankgate.console.settings import ConsoleSettings, HealthSettings, ListenSettings
from rankgate.console.sight import sight
from rankgate.console.site import CALLBACK, Site
from rankgate.console.tokens import person_by_token
from rankgate.console.webhook import CursorFile, WebhookSender, looking
from rankgate.errors import GateError, SettingsError

__all__ = ["Keys", "assembled", "check_certificate", "keys_of", "serve"]

log = structlog.get_logger(__name__)

ROLE = "console"
EXPIRE_S = 5.0
STOP_S = 10


@dataclass(frozen=True, slots=True)
class Keys:
    """What the console signs with, verifies by and opens previews with."""

    signer: Signer
    votes: VoteKeys
    opener: Opener | None


def keys_of(settings: ConsoleSettings) -> Keys:
    """Read the files of keys; raises SettingsError naming the setting and the remedy."""
    own = _private_key(settings.vote_key_file)
    before = read_public_keys(settings.vote_keys)
    opener = None
    if settings.preview_key_file is not None:
        lines = _text("preview_key_file", settings.preview_key_file).splitlines()
        opener = Opener(next((line for line in lines if line.startswith("AGE-SECRET-KEY-1")), ""))
    return Keys(Signer(own), VoteKeys([own.public_key(), *before]), opener)


@contextlib.asynccontextmanager
async def assembled(settings: ConsoleSettings) -> AsyncIterator[Starlette]:
    """Yield the console's application with everything it needs running; raises SettingsError."""
    login_settings = settings.login
    keys = await asyncio.to_thread(keys_of, settings)
    secret = None if login_settings.client_secret_file is None else read_secret(login_settings.client_secret_file)
    openid = OpenId(
        login_settings.issuer, login_settings.client_id, secret, f"{settings.origin}{CALLBACK}",
        trusted_hosts=login_settings.trusted_hosts, insecure_http=login_settings.insecure_http,
        ca_file=login_settings.ca_file,
    )  # fmt: skip
    token_issuer = login_settings.token_issuer()
    jwks = JwksClient(token_issuer)
    verifier = Verifier([token_issuer], source=lambda _: jwks)
    async with contextlib.AsyncExitStack() as stack:
        journal = await Journal.open(settings.journal, settings.deployment)
        stack.push_async_callback(journal.close)
        store = ApprovalStore.connect(settings.state, settings.deployment, settings.history_s)
        stack.push_async_callback(store.close)
        await verifier.start()
        stack.push_async_callback(verifier.stop)
        desk = Desk(store, keys.signer, keys.votes, keys.opener, journal, vote_fresh_s=settings.vote_fresh_s)
        sessions = Sessions(secure=settings.scheme == "https", longest_s=settings.session_s, idle_s=settings.idle_s)

        async def by_token(headers: list[bytes]) -> Person:
            return await person_by_token(headers, verifier, login_settings, settings.roles, time.time())

        async def parts() -> Mapping[str, bool]:
            return {"journal": journal.ready, "login": verifier.ready, "store": await store.ready()}

        async def ready() -> bool:
            return all((await parts()).values())

        registry = new_registry(Slot(ROLE, 0))
        _beside(stack, "expiring", _expire(desk))
        if settings.webhook.url is not None and settings.webhook.secret_file is not None:
            sender = WebhookSender(
                settings.webhook.url, settings.webhook.secret_file, store.events, looking(store),
                CursorFile(settings.journal.directory / "webhook-cursor"),
                agreed=lambda stored, at_ms: sight(stored, keys.votes).standing(at_ms).state is State.APPROVED,
                deployment=settings.deployment,
                public_url=settings.origin, kinds=settings.webhook.events, registry=registry,
            )  # fmt: skip
            _beside(stack, "webhook", sender.run())
        with contextlib.suppress(GateError):
            # Known before the first page, so that its logout may lead to the issuer.
            await openid.metadata()
        await _pages(stack, settings.health, Health(parts, _nobody, registry), registry)
        yield application(
            Site(desk=desk, settings=settings), sessions=sessions,
            login=Login(settings, openid, jwks, sessions, journal),
            by_token=by_token, ready=ready, leaves_for=lambda: origin_of(openid.end_session),
        )  # fmt: skip


async def _pages(
    stack: contextlib.AsyncExitStack, settings: HealthSettings, health: Health, registry: CollectorRegistry
) -> None:
    """Serve probes and metrics until the end of `stack`, where a port is set."""
    if settings.port is None:
        return
    from rankgate.clients import pages

    await stack.enter_async_context(health.watching())
    port = await stack.enter_async_context(pages.serve(health, registry, settings.address, settings.port, {}))
    log.info("health_serving", address=settings.address, port=port)


async def _nobody(_: bool) -> None:
    """Who wants to know whether the console is ready asks its pages."""


async def serve(settings: ConsoleSettings) -> None:
    """Serve until SIGTERM or SIGINT; raises SettingsError where the console cannot start."""
    listen = settings.listen
    check_certificate(listen)
    with _listening(listen) as place:
        await _serve(settings, place)


async def _serve(settings: ConsoleSettings, place: socket.socket) -> None:
    listen = settings.listen
    async with assembled(settings) as app:
        server = _Server(
            uvicorn.Config(
                app, http=Punctual, ssl_certfile=listen.certificate_file,
                ssl_keyfile=listen.key_file, log_config=None, access_log=False, server_header=False,
                proxy_headers=False, lifespan="off", h11_max_incomplete_event_size=32_768, limit_concurrency=512,
                timeout_keep_alive=30, timeout_graceful_shutdown=STOP_S,
            )
        )  # fmt: skip
        for number in (signal.SIGTERM, signal.SIGINT):
            asyncio.get_running_loop().add_signal_handler(number, server.handle_exit, number, None)
        log.info("console_serving", address=listen.address, port=place.getsockname()[1], public_url=settings.origin)
        await server.serve(sockets=[place])


def check_certificate(listen: ListenSettings) -> None:
    """Raise SettingsError where the certificate could not be served."""
    if listen.certificate_file is None:
        return
    try:
        # A key with a password is one fault more, and no question on the terminal.
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(listen.certificate_file, listen.key_file, lambda: "none")
    except OSError:
        raise SettingsError(
            "listen.certificate_file and listen.key_file are no readable PEM certificate chain and its key"
        ) from None


def _listening(listen: ListenSettings) -> socket.socket:
    """Return the socket to serve on: what cannot be had is a setting's fault, and known before anything starts."""
    try:
        family = socket.AF_INET6 if ":" in listen.address else socket.AF_INET
        return socket.create_server((listen.address, listen.port), family=family, backlog=512)
    except OSError as error:
        why = error.strerror or "no such address"
        raise SettingsError(
            f"listen.port {listen.port} cannot be had on {listen.address}: {why}; set another"
        ) from None


class _Server(uvicorn.Server):
    """A server that leaves signals to us: uvicorn ends the process by them before the journal is closed."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture nothing."""
        yield


async def _expire(desk: Desk) -> None:
    while True:
        try:
            await desk.expire_due()
        except RefusedError as error:
            log.warning("approvals_not_expired", why=error.refusal.value)
        except Exception as error:  # noqa: BLE001 - whatever goes wrong, it is tried again
            log.error("approvals_not_expired", error=type(error).__name__)  # noqa: TRY400 - the text may quote a record
        await asyncio.sleep(EXPIRE_S)


def _beside(stack: contextlib.AsyncExitStack, name: str, work: Coroutine[Any, Any, None]) -> None:
    """Let `work` run until the end of `stack`. It has none of its own: where a fault ends it, the log says so."""
    task = asyncio.create_task(work, name=name)
    task.add_done_callback(_told)
    stack.push_async_callback(_ended, task)


def _told(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        # The kind alone: the text may quote what was sent.
        log.error("task_failed", task=task.get_name(), error=type(error).__name__)


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _private_key(path: Path) -> Ed25519PrivateKey:
    try:
        key = load_pem_private_key(_text("vote_key_file", path).encode(), None)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise SettingsError(
            "vote_key_file holds no Ed25519 private key in PEM without a password; `rankgate console keys` makes one"
        )
    return key


def _text(setting: str, path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError):
        raise SettingsError(f"{setting}: {path} cannot be read; change its owner or mode, or name another") from None
