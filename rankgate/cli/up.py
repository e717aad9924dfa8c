"""`rankgate up`: the same gate in front of a reranker of your own."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shlex
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

if TYPE_CHECKING:
    from rankgate.clients.embedded import Stack
    from rankgate.clients.state import StateDirectory
    from rankgate.settings import Settings

__all__ = ["up"]

EXAMPLE = "rankgate up --upstream http://127.0.0.1:9000 --issuer https://login.example --audience rerank"
TOKEN_S = 3600

FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
FOLDER = click.Path(path_type=Path, file_okay=False)


@click.command()
@click.option("--upstream", metavar="URL", help="Base URL of the reranker.")
@click.option("--issuer", metavar="URL", help="OIDC issuer whose tokens are accepted.")
@click.option("--audience", metavar="A", multiple=True, help="Accepted audience; may be repeated.")
@click.option("--insecure-dev-issuer", is_flag=True, help="Start a development issuer, on loopback only.")
@click.option("--listen", metavar="ADDRESS:PORT", help="Where callers connect.  [default: 127.0.0.1:8080]")
@click.option("--credential-file", type=FILE, help="File with the reranker's key, lent to allowed calls.")
@click.option("--trusted-ca", type=FILE, help="PEM bundle for an https reranker.")
@click.option("--policy", type=FOLDER, help="Folder of .rego and data.json files.  [default: the shipped policy]")
@click.option("--opa-url", metavar="URL", help="Ask this OPA instead of the embedded engine.")
@click.option("--config", type=FILE, help="Settings file (TOML); options win over it.")
@click.option(
    "--state",
    type=FOLDER,
    default=Path("rankgate-state"),
    show_default=True,
    help="Folder of keys, trail and logs; kept.",
)
@click.pass_context
def up(ctx: click.Context, /, state: Path, config: Path | None, insecure_dev_issuer: bool, **options: Any) -> None:
    """Guard your own reranker.

    Starts Valkey, both filters and Envoy on this machine, in front of a reranker that is already there. Callers
    change nothing but the base URL. Ctrl-C stops everything; the state folder stays.

    Exits 0 after Ctrl-C or SIGTERM, 1 where it cannot start or a part of it ended.
    """
    from rankgate.cli.preflight import check_state_path
    from rankgate.cli.running import run
    from rankgate.clients.state import StateDirectory, merged

    values = merged(_file(config), _options(options))
    if insecure_dev_issuer and options["issuer"]:
        raise click.UsageError("--issuer and --insecure-dev-issuer exclude each other.")
    _complete(values, dev_issuer=insecure_dev_issuer)
    click.echo("Starting Valkey, both filters and Envoy ...")
    check_state_path(state)
    folder = StateDirectory(state)
    with folder.locked():
        failed = run(_serve(folder, values, tuple(options["audience"]) if insecure_dev_issuer else None))
    if failed is None:
        click.echo(f"stopped; state kept in {folder.path}")
    ctx.exit(1 if failed else 0)


def _complete(values: dict[str, Any], *, dev_issuer: bool) -> None:
    """Raise UsageError with everything that is missing, and a line that has it all."""
    missing = []
    if not _given("upstream", values):
        missing.append("Which reranker? Give --upstream.")
    if not dev_issuer and not _given("issuers", values):
        missing.append("Whose tokens are accepted? Give --issuer and --audience, or --insecure-dev-issuer.")
    if missing:
        raise click.UsageError("\n".join([*missing, f"For example: {EXAMPLE}"]))


def _given(section: str, values: dict[str, Any]) -> bool:
    """Tell whether options, file or environment say anything about `section`."""
    return bool(values.get(section)) or any(name.startswith(f"RANKGATE_{section.upper()}") for name in os.environ)


def _file(config: Path | None) -> dict[str, Any]:
    from rankgate.errors import SettingsError

    try:
        return tomllib.loads(config.read_text(encoding="utf-8")) if config else {}
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise SettingsError(f"settings file {config} cannot be read as TOML: {error}") from None


def _options(options: dict[str, Any]) -> dict[str, Any]:
    """Return the settings that the options stand for; what was not given is absent."""
    values: dict[str, Any] = {
        "upstream": {"url": options["upstream"], "trusted_ca": _absolute(options["trusted_ca"])},
        "policy": {"directory": _absolute(options["policy"])},
        "listen": _address(options["listen"]) if options["listen"] else {},
    }
    if options["issuer"]:
        if not options["audience"]:
            raise click.UsageError("--issuer needs --audience: tokens meant for other services must not pass.")
        values["issuers"] = [{"issuer": options["issuer"], "audiences": list(options["audience"])}]
    if options["credential_file"]:
        values["credentials"] = {"broker": "file", "file": _absolute(options["credential_file"])}
    if options["opa_url"]:
        values["policy"] |= {"engine": "opa", "url": options["opa_url"]}
    return {name: value for name, value in values.items() if not isinstance(value, dict) or any(value.values())}


def _absolute(path: Path | None) -> Path | None:
    return path and path.absolute()


def _address(listen: str) -> dict[str, Any]:
    address, colon, port = listen.rpartition(":")
    if not colon or not port.isdecimal():
        raise click.UsageError("--listen is ADDRESS:PORT, for example 127.0.0.1:8080.")
    return {"address": address.strip("[]") or "127.0.0.1", "port": int(port)}


async def _serve(folder: StateDirectory, values: dict[str, Any], dev_audiences: tuple[str, ...] | None) -> bool:
    """Run the gate until a part of it ends, and return True; Ctrl-C cancels."""
    from rankgate.cli.notices import reloads
    from rankgate.cli.preflight import check_settings
    from rankgate.clients.embedded import Stack
    from rankgate.clients.state import merged

    async with contextlib.AsyncExitStack() as cleanup:
        layers = [folder.defaults(), values]
        if merged({"credentials": {}}, values)["credentials"].get("broker") == "minted":
            layers.insert(0, folder.minting_defaults())
        token_file = None
        if dev_audiences is not None:
            issuer, mint = await cleanup.enter_async_context(_dev_issuer(dev_audiences or ("rerank",)))
            layers.append(issuer)
            token_file = folder.write_secret("dev-token", mint().encode())
            cleanup.callback(asyncio.ensure_future(_renew(folder, mint)).cancel)
        settings = folder.write_settings(merged(*layers))
        stack = Stack(settings, folder.path / "run")
        if token_file is not None:
            _loopback_only(stack.settings.listen.address)
        check_settings(stack.settings)
        await cleanup.enter_async_context(stack)
        _say(stack, token_file)
        await _warn(stack.settings, own_issuer=token_file is None)
        click.echo("Ctrl-C stops everything.")
        cleanup.callback(asyncio.ensure_future(reloads(stack.child("ext_authz-0"), _err)).cancel)
        child = await stack.ended()
        click.echo(f"Error: {child.name} ended ({child.ending}); what it wrote last:\n{child.tail()}", err=True)
        return True


async def _renew(folder: StateDirectory, mint: Callable[[], str], every_s: float = TOKEN_S / 2) -> None:
    """Write a new development token long before the old one expires, for as long as the gate runs."""
    while True:
        await asyncio.sleep(every_s)
        with contextlib.suppress(OSError):
            folder.write_secret("dev-token", mint().encode())


async def _warn(settings: Settings, *, own_issuer: bool) -> None:
    from rankgate.cli.notices import absent, denies_everybody

    warnings = await absent(settings)
    if own_issuer and denies_everybody(settings):
        warnings.append(
            "the shipped policy knows the clients of its example alone and denies everybody else; "
            "list yours in a copy of it and name that with --policy (README.md, Who may rank)"
        )
    for warning in warnings:
        click.secho(f"WARNING     {warning}", fg="yellow", err=True)


def _err(text: str) -> None:
    click.echo(text, err=True)


@contextlib.asynccontextmanager
async def _dev_issuer(audiences: tuple[str, ...]) -> AsyncIterator[tuple[dict[str, Any], Callable[[], str]]]:
    from rankgate.demo.issuer import DevIssuer

    issuer = DevIssuer(lifetime_s=TOKEN_S)
    await issuer.start()
    try:
        claims = {"sub": "search-svc", "aud": audiences[0], "tenant": "acme", "groups": ["search"], "scope": "rerank"}
        entry = {
            "issuer": issuer.url,
            "audiences": list(audiences),
            "insecure_http": True,
            "claims": {"tenant": "tenant"},
        }
        yield {"issuers": [entry]}, lambda: issuer.mint(**claims)
    finally:
        await issuer.stop()


def _loopback_only(address: str) -> None:
    from rankgate.errors import SettingsError
    from rankgate.settings.base import is_loopback

    if not is_loopback(address):
        raise SettingsError(
            f"listen.address {address} is not loopback, and --insecure-dev-issuer gives tokens to anyone; "
            "listen on 127.0.0.1 or name your own --issuer"
        )


def _say(stack: Stack, token_file: Path | None) -> None:
    settings = stack.settings
    click.echo(f"base URL    {stack.url}   (callers change nothing else)")
    click.echo(f"reranker    {settings.upstream.url}")
    for issuer in settings.issuers:
        click.echo(f"tokens of   {issuer.issuer} for {', '.join(issuer.audiences)}")
    click.echo(f"policy      {settings.policy.url or settings.policy.directory or 'the shipped one'}")
    click.echo(f"trail       {settings.audit.directory}, shipped to {settings.audit.redis_url or 'nowhere'}")
    click.echo(f"tail it     rankgate audit tail --follow --config {shlex.quote(str(stack.config))}")
    if settings.audit.signing_key_file is not None:
        from rankgate.clients.signing import read_signers

        key = read_signers(settings.audit.signing_key_file, settings.deployment)[0].verifier
        click.echo(f"verify it   rankgate audit verify --config {shlex.quote(str(stack.config))} --key {key}")
    click.echo(f"logs        {stack.directory}")
    if token_file is not None:
        click.secho("WARNING     the development issuer gives tokens to anyone on this machine", fg="yellow", err=True)
        click.echo(f"a token     {token_file}   (good for an hour, a new one every half hour)")
