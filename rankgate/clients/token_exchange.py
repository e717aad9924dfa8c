"""The broker that has the caller's token exchanged for one that the reranker accepts (RFC 8693)."""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable
from functools import partial

from rankgate.clients.breaker import Breaker
from rankgate.clients.lending import LeaseForm, Lender, no_kind, unavailable
from rankgate.clients.token_endpoint import AwayError, RefusedError, TokenEndpoint
from rankgate.credentials import Grant, Lease
from rankgate.errors import GateError
from rankgate.issued import UnfitError
from rankgate.settings import ExchangeSettings

__all__ = ["ExchangeBroker"]

# Inside the time of a step, so that this says why, and not that alone.
EXCHANGE_S = 0.45
# A lent token has to last until the reranker has read it.
MARGIN_S = 10.0
CACHE_ENTRIES = 4096
FLIGHTS = 64

# The caller's token, by its digest alone, and the route. Whom the token is for is the same for all of them.
_Key = tuple[bytes, str]


class ExchangeBroker(Lender):
    """Lends what the token endpoint gives for a caller's token; remembered until shortly before either ends.

    Calls with one token share one exchange. A refusal is never remembered. An endpoint that does not work is left
    alone for moments; one that refuses a token works. `clock` gives seconds since 1970.
    """

    def __init__(
        self,
        settings: ExchangeSettings,
        form: LeaseForm,
        *,
        clock: Callable[[], float] = time.time,
        timeout_s: float = EXCHANGE_S,
        breaker: Breaker | None = None,
    ) -> None:
        self._endpoint = TokenEndpoint(settings)
        self._form = form
        self._clock = clock
        self._timeout_s = timeout_s
        self._breaker = breaker or Breaker()
        self._lent: OrderedDict[_Key, tuple[float, float, Lease]] = OrderedDict()
        self._flights: dict[_Key, asyncio.Task[Lease | str]] = {}

    async def lease(self, grant: Grant) -> Lease:
        """Return the token exchanged for the caller's. Raises GateError(CREDENTIAL_UNAVAILABLE)."""
        no_kind(grant)
        key = hashlib.sha256(grant.token.reveal().encode("ascii")).digest(), grant.route
        lent = self._recall(key)
        if lent is not None:
            return lent
        flight = self._flights.get(key) or self._fly(key, grant)
        # A caller that leaves does not end the exchange for the others.
        await asyncio.wait((flight,))
        outcome = "stopped" if flight.cancelled() else flight.result()
        if isinstance(outcome, str):
            raise unavailable(f"exchange: {outcome}")
        return outcome

    async def stop(self) -> None:
        """End the exchanges under way and close the connections."""
        flights = list(self._flights.values())
        for flight in flights:
            flight.cancel()
        await asyncio.gather(*flights, return_exceptions=True)
        await self._endpoint.stop()

    def _fly(self, key: _Key, grant: Grant) -> asyncio.Task[Lease | str]:
        if len(self._flights) >= FLIGHTS:
            raise unavailable("exchange: too many")
        if not self._breaker.permit():
            raise unavailable("exchange: resting")
        flight = self._flights[key] = asyncio.create_task(self._exchange(key, grant))
        flight.add_done_callback(partial(self._landed, key))
        return flight

    def _landed(self, key: _Key, _: asyncio.Task[Lease | str]) -> None:
        del self._flights[key]

    async def _exchange(self, key: _Key, grant: Grant) -> Lease | str:
        """Return the lease, or the word for why there is none. Tells the breaker what it saw of the endpoint."""
        asked = self._clock()
        try:
            async with asyncio.timeout(self._timeout_s):
                issued = await self._endpoint.exchange(grant.token, asked)
            lease = self._form.lease(issued.token.reveal())
        except (RefusedError, UnfitError) as why:
            # One caller's token that is refused must not close the gate to the others.
            self._breaker.succeeded()
            return str(why)
        except GateError as why:
            self._breaker.succeeded()
            return why.detail
        except AwayError as why:
            self._breaker.failed()
            return str(why)
        except TimeoutError:
            self._breaker.failed()
            return "late"
        except (OSError, ValueError):
            self._breaker.abandoned()
            return "client proof"
        except BaseException:
            self._breaker.abandoned()
            raise
        self._breaker.succeeded()
        if issued.expires is not None:
            self._remember(key, asked, min(issued.expires, grant.expires) - MARGIN_S, lease)
        return lease

    def _remember(self, key: _Key, since: float, until: float, lease: Lease) -> None:
        if until > since:
            self._lent[key] = since, until, lease
            self._lent.move_to_end(key)
            while len(self._lent) > CACHE_ENTRIES:
                self._lent.popitem(last=False)

    def _recall(self, key: _Key) -> Lease | None:
        entry = self._lent.get(key)
        if entry is None:
            return None
        since, until, lease = entry
        # A clock that went back makes the entry void too: it says nothing about times before it.
        if not since <= self._clock() < until:
            del self._lent[key]
            return None
        self._lent.move_to_end(key)
        return lease
