"""Presidio's pattern recognisers over the same texts, without its NLP engine. Run by .cache/presidio's Python.

Standard input: {"bodies": [[text, ...], ...], "seconds": s}; standard output: microseconds a body, and findings.
Each recogniser is asked directly, so nothing of its engine's own cost is counted.
"""

from __future__ import annotations

import json
import sys
import time

from presidio_analyzer.predefined_recognizers import (
    CreditCardRecognizer,
    EmailRecognizer,
    IbanRecognizer,
    IpRecognizer,
    PhoneRecognizer,
    UsSsnRecognizer,
)

__all__ = ["main"]

KINDS = (
    CreditCardRecognizer, EmailRecognizer, IbanRecognizer, IpRecognizer, PhoneRecognizer, UsSsnRecognizer,
)  # fmt: skip


def main() -> None:
    """Measure what standard input asks for."""
    asked = json.loads(sys.stdin.read())
    recognizers = [kind() for kind in KINDS]
    bodies = asked["bodies"]
    findings, done, begun = 0, 0, time.process_time()
    while time.process_time() - begun < asked["seconds"]:
        for text in bodies[done % len(bodies)]:
            for one in recognizers:
                findings += len(one.analyze(text, one.supported_entities, None) or ())
        done += 1
    taken = time.process_time() - begun
    print(json.dumps({"us": taken / done * 1_000_000, "findings": findings / done}))


if __name__ == "__main__":
    main()
