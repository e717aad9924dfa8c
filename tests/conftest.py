"""For every test: what may only end in the thread that made it ends there."""

from __future__ import annotations

import gc
import sys
from collections.abc import Iterator

import pytest


@pytest.fixture(autouse=True, scope="module")
def engines_end_in_their_thread() -> Iterator[None]:
    """Collect the embedded engines that a test's caught errors still refer to.

    An engine that a collection in another thread comes upon first complains, in whatever test runs by then.
    """
    yield
    if "regorus" in sys.modules:
        gc.collect()
