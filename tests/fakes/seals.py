"""A seal for tests: quick, with keys made once, and what its log then holds."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from rankgate.audit.note import Signer, Verifiers, new_signing_key, signers
from rankgate.audit.sealed import Sealed
from rankgate.clients.delivery import DeliveryPace
from rankgate.clients.places import Place
from rankgate.clients.sealing import Seal, SealPace

__all__ = ["KEY", "NEXT", "QUICK", "TRUSTED", "checkpoints", "seal"]

(KEY,) = signers(new_signing_key(), "default")
(NEXT,) = signers(new_signing_key(), "default")
TRUSTED = Verifiers([KEY.verifier])
QUICK = SealPace(
    longest_s=0.02, heartbeat_s=3600.0, retry_s=0.02, stop_s=5.0,
    delivery=DeliveryPace(look_s=0.02, first_s=0.01, longest_s=0.05, lag_s=0.05),
)  # fmt: skip


def seal(*keys: Signer, places: Iterable[tuple[Place, bool]] = (), pace: SealPace = QUICK) -> Seal:
    """Return a seal of the deployment `default`."""
    return Seal("default", keys or (KEY,), places, pace=pace)


def checkpoints(path: Path) -> list[Sealed]:
    """Return the checkpoints in a file, or in that of a log's folder."""
    path = path / "checkpoints" if path.is_dir() else path
    return [Sealed.parse(line) for line in path.read_bytes().splitlines()]
