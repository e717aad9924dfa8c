"""Flow tests run through a real Envoy; each starts what it needs on free ports."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from flow.gate import Gate, trivial


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark everything in this folder."""
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker("flow")


@pytest.fixture
async def gate() -> AsyncIterator[Gate]:
    """A whole gate with default settings and a policy that allows everything."""
    async with Gate() as running:
        yield running


@pytest.fixture
async def edge() -> AsyncIterator[Gate]:
    """Envoy with the filters of trivial.py: what the configuration does by itself."""
    async with Gate(filters=trivial) as running:
        yield running
