"""Detection of sensitive data: where a text holds something of the configured types.

Reading order: `finding` (what comes out), `view` and `decode` (how a text is read), `recognizer` (the one
interface), the recognisers (`digits`, `registered`, `emails`, `phones`, `births`, `network`, `keys`), `gate` (what
makes it fast), `detector` (the pipeline). The pipeline opens nothing and keeps nothing but its cache.
"""

from __future__ import annotations

from rankgate.detect.detector import Detector
from rankgate.detect.finding import Finding
from rankgate.detect.recognizer import Recognizer
from rankgate.detect.tokens import is_pseudonym

__all__ = ["Detector", "Finding", "Recognizer", "is_pseudonym"]
