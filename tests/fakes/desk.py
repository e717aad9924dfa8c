"""A desk over a store in memory, with people to sit at it. Run as a program it serves the pages, logged in already.

python tests/fakes/desk.py --port 8099 --as ada
"""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

sys.path.insert(0, str(Path(__file__).parent.parent))

from fakes.desk_store import MemoryStore, make_ask

from rankgate.approvals import Opener, Preview, Sealer, Signer, VoteKeys, Voter
from rankgate.console.desk import Desk
from rankgate.console.people import Person, Role

__all__ = ["Journal", "Table", "person"]

NOW_MS = 1_700_000_000_000


class Journal:
    """Keeps entries; `full` refuses them."""

    def __init__(self) -> None:
        self.entries: list[tuple[str, str, dict[str, str | int]]] = []
        self.full: Exception | None = None

    async def write(self, kind: str, person: str, **detail: str | int) -> None:
        if self.full is not None:
            raise self.full
        self.entries.append((kind, person, detail))

    @property
    def kinds(self) -> list[str]:
        return [kind for kind, _, _ in self.entries]


def person(
    name: str = "ada", *groups: str, roles: tuple[Role, ...] = (), logged_in_ms: int = NOW_MS, **members: Any
) -> Person:
    """Return a person of `groups` (none given: the approvers)."""
    issuer = members.pop("issuer", "https://people.example")
    names = members.pop("names", (f"{name}@acme.example", name))
    voter = Voter(issuer, name, f"{issuer} {name}", names, groups or ("approvers",))
    return Person(voter, frozenset(roles), logged_in_ms, members.pop("csrf", ""))


@dataclass
class Table:
    """A desk and everything on it; `now_ms` is its clock."""

    now_ms: int = NOW_MS
    store: MemoryStore = field(default_factory=MemoryStore)
    journal: Journal = field(default_factory=Journal)
    key: Ed25519PrivateKey = field(default_factory=Ed25519PrivateKey.generate)
    vote_fresh_s: int = 3600

    def __post_init__(self) -> None:
        import pyrage

        self.signer = Signer(self.key)
        self.keys = VoteKeys([self.key.public_key()])
        self.opener = Opener(str(pyrage.x25519.Identity.generate()))
        self.sealer = Sealer(self.opener.recipient)
        self.desk = Desk(
            self.store, self.signer, self.keys, self.opener, self.journal,
            vote_fresh_s=self.vote_fresh_s, clock_ms=lambda: self.now_ms,
        )  # fmt: skip

    def sealed(self, query: str = "who is <PERSON>?") -> str:
        return self.sealer.seal(Preview(query, None, ((0, "about <PERSON>"), (1, "about <EMAIL_ADDRESS>")), cut=True))


def _serve(port: int, name: str) -> None:
    import time

    import uvicorn
    from starlette.applications import Starlette
    from starlette.middleware import Middleware

    from rankgate.console import pages
    from rankgate.console.settings import ConsoleSettings
    from rankgate.console.site import Site

    now = time.time_ns() // 1_000_000
    table = Table(now_ms=now)
    table.store.now_ms = now
    for number in range(1, 6):
        table.store.put(make_ask(number, now - number * 30_000, preview=table.sealed()))
    table.store.put_review(make_ask(50, now - 60_000, break_glass="the index was down"))
    settings = ConsoleSettings.model_validate(
        {
            "public_url": f"http://127.0.0.1:{port}", "vote_key_file": "/dev/null",
            "state": {"redis_url": "redis://127.0.0.1:1"}, "journal": {"directory": "/tmp"},
            "login": {"issuer": "https://people.example", "client_id": "console", "audience": "rankgate-approvals"},
        }
    )  # fmt: skip
    who = person(name, "approvers", roles=(Role.OPERATE,), logged_in_ms=now, csrf="development")

    class LoggedIn:
        def __init__(self, app: Any) -> None:
            self.app = app

        async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
            if scope["type"] == "http":
                scope.setdefault("state", {})["person"] = who
            await self.app(scope, receive, send)

    app = Starlette(
        routes=list(pages.routes(Site(desk=table.desk, settings=settings))), middleware=[Middleware(LoggedIn)]
    )
    uvicorn.run(app, host="127.0.0.1", port=port)


if __name__ == "__main__":
    import argparse

    options = argparse.ArgumentParser()
    options.add_argument("--port", type=int, default=8099)
    options.add_argument("--as", dest="name", default="ada")
    chosen = options.parse_args()
    _serve(chosen.port, chosen.name)
