"""Addresses of machines and URLs with credentials: what is found, and what only resembles it."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector

FOUND = [
    ("IP_ADDRESS", "203.0.113.9"),
    ("IP_ADDRESS", "http://192.168.1.1/admin"),
    ("IP_ADDRESS", "10.0.0.0/8"),
    ("IP_ADDRESS", "fe80::1%eth0"),
    ("IP_ADDRESS", "[2001:db8::1]:443"),
    ("IP_ADDRESS", "id2001:db8::57de:7813"),
    ("IP_ADDRESS", "::ffff:203.0.113.9"),
    ("MAC_ADDRESS", "00:1b:44:11:3a:b7"),
    ("MAC_ADDRESS", "00-1B-44-11-3A-B7"),
    ("MAC_ADDRESS", "001b.4411.3ab7"),
    ("URL_CREDENTIALS", "postgres://app:pw@db.example.org/x"),
    ("URL_CREDENTIALS", "https://example.org/?api_key=9f8e7d6c5b"),
    ("URL_CREDENTIALS", "https://example.org/#access_token=abcdef0123456789"),
]
CLEAN = [
    "version 1.2.3.4",
    "v1.2.3.4",
    "Chrome/120.0.0.0",
    "1.2.3.4.5",
    "256.1.1.1",
    "section 4.1.2.3",
    "12:34:56",
    "std::vec::Vec",
    "a::b",
    "foo1::bad",
    "dead::beef",
    "12-34-56-78-90-12",
    "https://example.org/?page=2",
    "https://example.org:8080/a@b",
    "https://example.org/?key=value",
]
TYPES = {"URL_CREDENTIALS", "MAC_ADDRESS", "IP_ADDRESS"}


@pytest.mark.parametrize(("name", "text"), FOUND)
def test_a_value_is_found_once(name: str, text: str, detector: Detector) -> None:
    assert [one.type for one in detector.detect(text)] == [name]


@pytest.mark.parametrize("text", CLEAN)
def test_a_look_alike_is_left_alone(text: str, detector: Detector) -> None:
    assert not TYPES & {one.type for one in detector.detect(text)}
