"""The console's API (`/api/v1`), as a person uses it from a terminal or a script.

One origin, one token. No redirect is followed: the token goes nowhere else.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, NamedTuple, Self
from urllib.parse import quote

import httpx

from rankgate.clients.asking import TIMEOUT, ask, http_client, json_object, safe_address

__all__ = ["ConsoleClient", "ConsoleError", "OpenId", "Outcome", "TimedOutError"]

Outcome = dict[str, Any]
"""An approval as the API gives it."""

# What may be an access token in a header (RFC 6750 section 2.1: b64token).
_TOKEN = re.compile(r"[A-Za-z0-9._~+/-]{1,16384}=*")
_STILL_OPEN = "pending"
# The console says something at least this often; silence beyond it is a lost connection.
SILENCE_S = 60.0
RECONNECT_S = 2.0


class ConsoleError(Exception):
    """The console did not do what it was asked, or was not there: `status` is 0 then. `code` is its own word for why.

    The text is for people: of a known length, but not yet safe to print.
    """

    def __init__(self, code: str, text: str, status: int = 0) -> None:
        super().__init__(text)
        self.code = code
        self.status = status


class TimedOutError(Exception):
    """Nothing was decided in time."""


class OpenId(NamedTuple):
    """How to log in: the issuer, the client for the command line, the audience and scopes of the token."""

    issuer: str
    client_id: str
    audience: str
    scopes: tuple[str, ...]


class ConsoleClient:
    """Talks to one console. Everything raises ConsoleError; SettingsError where `url` can never work.

    `clock` is monotonic, in seconds; `sleep` waits that long.
    """

    def __init__(
        self, url: str, token: str = "", *, ca_file: Path | None = None,
        clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], object] = time.sleep,
    ) -> None:  # fmt: skip
        self.url = safe_address("the console's address", url)
        if token and not _TOKEN.fullmatch(token):
            raise ConsoleError("token_invalid", "the token is none: it has characters that no token has", 401)
        headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = http_client(f"{self.url}/api/v1/", ca_file, headers)
        self._clock = clock
        self._sleep = sleep

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._http.close()

    def openid(self) -> OpenId:
        """Return how to log in; the console tells that to anybody."""
        found = self._get("openid")
        issuer, client, audience = (found.get(name) for name in ("issuer", "client_id", "audience"))
        scopes = found.get("scopes", [])
        if not all(isinstance(text, str) and text for text in (issuer, client, audience)) or not _all_texts(scopes):
            raise ConsoleError("answer_invalid", "the console does not say how to log in")
        return OpenId(str(issuer), str(client), str(audience), tuple(scopes))

    def me(self) -> Outcome:
        """Return who the console takes the token's owner for."""
        return self._get("me")

    def listing(self, state: str, limit: int, before: str = "") -> list[Outcome]:
        """Return approvals, newest first; `state` is one, `open` or `all`; `before` is an id."""
        return self._items("approvals", state=state, limit=limit, **({"before": before} if before else {}))

    def show(self, approval: str) -> Outcome:
        """Return one approval with its preview. The console writes down that it was looked at."""
        return self._get(f"approvals/{_segment(approval)}")

    def vote(
        self, approval: str, choice: Literal["approve", "deny"], record: str, reason: str,
        use_within_s: int | None = None,
    ) -> Outcome:  # fmt: skip
        """Vote on what was shown as `record`."""
        body: dict[str, Any] = {"record": record, "reason": reason}
        if use_within_s is not None:
            body["use_within_s"] = use_within_s
        return self._post(f"approvals/{_segment(approval)}/{choice}", body)

    def withdraw(self, approval: str, record: str) -> Outcome:
        """Take one's own vote back."""
        return self._post(f"approvals/{_segment(approval)}/withdraw", {"record": record})

    def cancel(self, approval: str, reason: str) -> Outcome:
        """Close an approval without a decision."""
        return self._post(f"approvals/{_segment(approval)}/cancel", {"reason": reason})

    def revoke(self, person: str, reason: str) -> Outcome:
        """Let no vote of `person` until now count any more."""
        return self._post("revocations", {"person": person, "reason": reason})

    def reviews(self, state: Literal["open", "closed"], limit: int) -> list[Outcome]:
        """Return what calls that broke the glass left, newest first."""
        return self._items("reviews", state=state, limit=limit)

    def close_review(self, review: str, reason: str) -> Outcome:
        """Say that somebody looked at it."""
        return self._post(f"reviews/{_segment(review)}/close", {"reason": reason})

    def wait(self, approval: str, timeout_s: float | None = None) -> Outcome:
        """Return the approval once it is not pending any more; raises TimedOutError after `timeout_s`.

        It is read when the stream of events begins, and again for each event about it: reading leaves a trace in the
        console's journal, so it is not asked over and over.
        """
        until = None if timeout_s is None else self._clock() + timeout_s
        reached = False
        while True:
            try:
                for about in self._events(until):
                    reached = True
                    if about not in {"", approval}:
                        continue
                    found = self.show(approval)
                    if found.get("state") != _STILL_OPEN:
                        return found
            except ConsoleError as error:
                # What the console refuses it will refuse again; one that was there and is away comes back.
                if 0 < error.status < 500 or not reached:
                    raise
            left = None if until is None else until - self._clock()
            if left is not None and left <= 0:
                raise TimedOutError
            self._sleep(RECONNECT_S if left is None else min(RECONNECT_S, left))

    def _events(self, until: float | None) -> Iterator[str]:
        """Yield the id of each approval that something happened to; an empty one when the stream has begun."""
        silence = SILENCE_S if until is None else max(0.0, min(SILENCE_S, until - self._clock()))
        timeout = httpx.Timeout(TIMEOUT.connect, read=silence or 0.001)
        try:
            with self._http.stream("GET", "events", headers={"accept": "text/event-stream"}, timeout=timeout) as answer:
                if answer.status_code != 200:
                    raise _refusal(answer.status_code, next(answer.iter_raw(65_536), b""))
                yield ""
                # WHATWG HTML section 9.2.6, as far as the console uses it: one line of data an event.
                for line in answer.iter_lines():
                    if line.startswith("data:"):
                        told = json_object(line[len("data:") :].encode("utf-8", "replace")) or {}
                        yield str(told.get("approval", "-"))
                    if until is not None and self._clock() >= until:
                        return
        except httpx.ReadTimeout:
            return
        except httpx.HTTPError as error:
            raise _unreachable(error) from None

    def _get(self, path: str) -> Outcome:
        found = json_object(self._ask("GET", path))
        if found is None:
            raise ConsoleError("answer_invalid", "the answer is not the console's; is the address right?")
        return found

    def _items(self, path: str, **query: str | int) -> list[Outcome]:
        found = json_object(self._ask("GET", path, params=query)) or {}
        items = found.get(path)
        if not isinstance(items, list) or not all(isinstance(item, dict) for item in items):
            raise ConsoleError("answer_invalid", "the answer is not the console's; is the address right?")
        return items

    def _post(self, path: str, body: dict[str, Any]) -> Outcome:
        return json_object(self._ask("POST", path, json=body)) or {}

    def _ask(self, method: str, path: str, **options: Any) -> bytes:
        try:
            status, body = ask(self._http, method, path, **options)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _unreachable(error) from None
        if not 200 <= status < 300:
            raise _refusal(status, body)
        return body


def _refusal(status: int, body: bytes) -> ConsoleError:
    """Return what a refusal tells (RFC 9457): its word and its text, neither longer than people read."""
    if 300 <= status < 400:
        return ConsoleError("redirected", "the console redirects, which is not followed; give its own address", status)
    told = json_object(body) or {}
    code, text = told.get("code"), told.get("detail") or told.get("title")
    return ConsoleError(
        code[:64] if isinstance(code, str) else "refused",
        text[:500] if isinstance(text, str) else f"the console answers with status {status}",
        status,
    )


def _unreachable(error: Exception) -> ConsoleError:
    # The exception's own text may quote what was sent; its name does not.
    return ConsoleError("unreachable", f"the console cannot be reached ({type(error).__name__})")


def _segment(name: str) -> str:
    # Dots alone would name another path, whatever is quoted.
    return "-" if name.strip(".") == "" else quote(name, safe="")


def _all_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(item, str) for item in value)
