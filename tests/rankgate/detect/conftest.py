"""One detector of every structured type for all tests here."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector
from rankgate.settings import STRUCTURED_TYPES

REGIONS = ("US", "GB", "DE", "FR", "ES", "IT", "IN")


@pytest.fixture(scope="session")
def detector() -> Detector:
    return Detector(STRUCTURED_TYPES, phone_regions=REGIONS, cache_bytes=0)
