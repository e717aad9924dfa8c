"""API keys, assignments, tokens and private keys."""

from __future__ import annotations

import pytest

from rankgate.detect import Detector
from rankgate.detect.keys import API_KEYS

MIXED = "aB3dE5fG7hJ9kL2mN4pQ6rS8tU0v"


def _found(detector: Detector, text: str) -> list[tuple[str, str]]:
    return [(one.type, text[one.start : one.end]) for one in detector.detect(text)]


@pytest.mark.parametrize("rule", API_KEYS, ids=lambda rule: rule.triggers[0][:12])
def test_every_issuers_key_is_found_within_a_sentence(rule: object, detector: Detector) -> None:
    for example in rule.examples:  # type: ignore[attr-defined]
        assert ("API_KEY", example) in _found(detector, f"use {example}, then rotate")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (f"api_key = {MIXED}", MIXED),
        (f'"apiKey": "{MIXED}"', MIXED),
        ("password=Summer2024!x", "Summer2024!x"),
        ("the password is Summer2024", "Summer2024"),
        (f"client_secret '{MIXED}'", MIXED),
        (f"Authorization: Bearer {MIXED}", MIXED),
        ("Authorization: Basic dXNlcjpwYXNzd29yZDEyMw==", "dXNlcjpwYXNzd29yZDEyMw=="),
        (f"AWS_SECRET_ACCESS_KEY={MIXED}/+{MIXED}", f"{MIXED}/+{MIXED}"),
    ],
)
def test_an_assigned_secret_is_found_without_its_name(text: str, value: str, detector: Detector) -> None:
    assert _found(detector, text) == [("API_KEY", value)]


@pytest.mark.parametrize(
    "text",
    [
        "password: required",
        "the secret is persistence",
        "token: string",
        "token budget: 4096",
        "password field: lowercase_only_words",
        "task-queue-management-and-scheduling-service",
        "key=value",
        "Basic understanding of internationalization",
        "token: 1234567890",
        "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----",
        "the eyJ prefix of tokens",
        "eyJhbGciOi.x.y",
    ],
)
def test_words_are_no_secrets(text: str, detector: Detector) -> None:
    assert detector.detect(text) == ()


def test_tokens_are_found_signed_unsigned_cut_and_glued(detector: Detector) -> None:
    head = "eyJhbGciOiJIUzI1NiJ9"
    for token in (f"{head}.eyJzdWIiOiIxIn0.{MIXED}", f"{head}.eyJzdWIiOiIxIn0.", f"{head}.eyJzdWIi"):
        assert _found(detector, f"got {token}") == [("JWT", token)]
    assert [name for name, _ in _found(detector, f"session{head}.eyJzdWIiOiIxIn0.{MIXED}")] == ["JWT"]


def test_a_private_key_is_found_from_first_to_last_line(detector: Detector) -> None:
    begin, end = "-----BEGIN RSA PRIVATE" + " KEY-----", "-----END RSA PRIVATE" + " KEY-----"
    key = f"{begin}\n{MIXED}{MIXED}\n{MIXED}\n{end}"
    assert _found(detector, f"leaked:\n{key}\nrevoke") == [("PRIVATE_KEY", key)]
    assert _found(detector, key.replace("\n", "\\n")) == [("PRIVATE_KEY", key.replace("\n", "\\n"))]


def test_a_private_key_that_was_cut_is_found_as_far_as_it_goes(detector: Detector) -> None:
    key = "-----BEGIN PRIVATE" + f" KEY-----\n{MIXED}{MIXED}\n{MIXED}"
    assert _found(detector, key) == [("PRIVATE_KEY", key)]
    assert _found(detector, f"{key}\n\nAnd then, the end.") == [("PRIVATE_KEY", key)]
