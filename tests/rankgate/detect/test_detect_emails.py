"""E-mail addresses: what is found, and what only resembles it."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector

FOUND = [
    ("EMAIL_ADDRESS", "jane.roe@example.org"),
    ("EMAIL_ADDRESS", "JANE@EXAMPLE.ORG"),
    ("EMAIL_ADDRESS", "jane+tag@mail.example.co.uk"),
    ("EMAIL_ADDRESS", "o'brien@example.ie"),
    ("EMAIL_ADDRESS", "<jane@example.org>"),
    ("EMAIL_ADDRESS", "mailto:jane@example.org"),
    ("EMAIL_ADDRESS", "jane@[203.0.113.9]"),
    ("EMAIL_ADDRESS", '"jane roe"@example.org'),
    ("EMAIL_ADDRESS", "jane [at] example [dot] org"),
    ("EMAIL_ADDRESS", "jane(at)example.org"),
    ("EMAIL_ADDRESS", "jane{at}example dot org"),
    ("EMAIL_ADDRESS", "mail jane at example dot org"),
    ("EMAIL_ADDRESS", "jane.roe at example dot org"),
    ("EMAIL_ADDRESS", "jane@example.org123"),
    ("EMAIL_ADDRESS", "jürgen@müller.de"),
    ("EMAIL_ADDRESS", "a@b.co"),
    ("EMAIL_ADDRESS", "jane@xn--mller-kva.de"),
]
CLEAN = [
    "jane@",
    "@jane",
    "jane@example",
    "icon@2x.png",
    "meet at noon",
    "we shop at amazon dot com",
    "a @ b . c",
    "user@host:22",
    "@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@@",
]
TYPES = {"EMAIL_ADDRESS"}


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_a_value_is_found_once(name: str, text: str, detector: Detector) -> None:
    assert [one.type for one in detector.detect(text)] == [name]


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_is_left_alone(text: str, detector: Detector) -> None:
    assert not TYPES & {one.type for one in detector.detect(text)}
