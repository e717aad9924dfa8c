"""What of a question is stored: all of it, or everything that differs has a name."""

from __future__ import annotations

import copy
import json
import re
from typing import Any, NamedTuple

import pytest

from rankgate.policy import OPT_INS, encode_question
from rankgate.policy.sample import sample_question
from rankgate.policy.storing import STORING_FAULTS, storable

MAIL = "maren@example.org"
SECRET = re.compile(r"[\w.]+@[\w.]+|\b\d+\.\d+\.\d+\.\d+\b")


class Found(NamedTuple):
    type: str


class Texts:
    """Finds mail and network addresses, and masks both."""

    def detect(self, text: str) -> list[Found]:
        return [Found("EMAIL_ADDRESS" if "@" in one else "IP_ADDRESS") for one in SECRET.findall(text)]

    def clean(self, text: str) -> str:
        return SECRET.sub("MASKED", text)


def asked(**parts: Any) -> dict[str, Any]:
    """Return a question; `parts` are merged into its parts."""
    question = copy.deepcopy(sample_question())
    for name, members in parts.items():
        question[name] |= members
    return question


def store(question: dict[str, Any], **changes: Any) -> tuple[dict[str, Any], list[str]]:
    given: dict[str, Any] = {"query": None, "instruction": None, "body_is_clean": False}
    before = encode_question(question)
    kept, why = storable(question, Texts(), **(given | changes))
    assert encode_question(question) == before
    assert set(why) <= set(STORING_FAULTS)
    assert (kept is question) is not bool(why)
    return kept, why


def claims(kind: str = "service", **given: Any) -> dict[str, Any]:
    return asked(identity={"kind": kind, "claims": given})


def headers(**given: str) -> dict[str, Any]:
    question = asked()
    question["attributes"]["request"]["http"]["headers"] |= {name.replace("_", "-"): v for name, v in given.items()}
    return question


def test_a_question_without_anything_sensitive_is_stored_as_it_was_asked() -> None:
    question = asked()
    assert store(question) == (question, [])


@pytest.mark.parametrize(
    ("question", "word"),
    [
        (asked(rerank={"model": MAIL}), "model"),
        (asked(rerank={"ids": ["a", MAIL]}), "ids"),
        (asked(rerank={"advisory_labels": {MAIL: [0]}}), "labels"),
        (headers(user_agent=f"bot {MAIL}"), "headers"),
        (headers(**{MAIL: "x"}), "headers"),
        (headers(x_forwarded_for="10.1.2.3"), "headers"),
        (asked(parsed_query={"who": [MAIL]}), "query_parameters"),
        (asked(attributes={"source": {"principal": MAIL}}), "attributes"),
        (asked(attributes={"tlsSession": {"sni": MAIL}}), "attributes"),
        (claims(note=f"ask {MAIL}"), "claims"),
        (claims(deep={"list": [MAIL]}), "claims"),
        (claims(**{MAIL: 1}), "claims"),
    ],
)
def test_what_is_sensitive_is_masked_and_named(question: dict[str, Any], word: str) -> None:
    kept, why = store(question)
    assert why == [word]
    assert MAIL not in json.dumps(kept)
    assert "10.1.2.3" not in json.dumps(kept)


def test_the_event_s_own_rendering_of_query_and_instruction_takes_their_place() -> None:
    kept, why = store(asked(), query="for X", instruction="as Y")
    assert why == ["query", "instruction"]
    assert (kept["rerank"]["query"], kept["rerank"]["instruction"]) == ("for X", "as Y")
    assert kept["rerank"]["query_chars"] == asked()["rerank"]["query_chars"]


def test_addresses_that_every_event_tells_are_no_difference() -> None:
    question = headers(x_envoy_external_address="192.0.2.1", host="10.0.0.1:8080")
    question["attributes"]["destination"] = {"address": {"socketAddress": {"address": "10.0.0.1", "portValue": 1}}}
    question["attributes"]["request"]["http"]["host"] = "10.0.0.1:8080"
    assert store(question)[1] == []


def test_opt_ins_are_never_stored() -> None:
    question = asked(rerank={"documents_text": [["secret"], []]})
    question |= {"parsed_body": {"query": "secret"}, "truncated_body": False}
    question["attributes"]["request"]["http"] |= {"rawBody": "c2VjcmV0"}
    question["attributes"]["request"]["http"]["headers"]["authorization"] = "Bearer secret"
    kept, why = store(question, opt_ins=OPT_INS)
    assert why == list(OPT_INS)
    assert "secret" not in json.dumps(kept)
    assert "c2VjcmV0" not in json.dumps(kept)
    assert kept == asked()


@pytest.mark.parametrize(
    "given",
    [
        {"exp": 1_700_000_000, "jti": f"id-{MAIL}", "aud": ["rerank"]},
        {"sub": "sample-svc", "team": "search", "level": 3, "tags": ["a", "b"]},
        {"preferred_username": "service-account-search"},
        {"kubernetes.io": {"namespace": "search", "pod": {"name": "search-0"}}},
    ],
)
def test_what_a_machine_s_token_says_of_the_machine_is_stored(given: dict[str, Any]) -> None:
    assert store(claims(**given))[1] == []


@pytest.mark.parametrize(
    "given",
    [
        {"name": "Maren Oldfield"},
        {"preferred_username": "maren"},
        {"https://acme.example/given_name": "Maren"},
        {"owner": {"family_name": "Oldfield"}},
        {"owners": [{"Name": "Maren"}]},
    ],
)
def test_what_a_token_says_about_a_person_is_not(given: dict[str, Any]) -> None:
    kept, why = store(claims(**given))
    assert why == ["claims"]
    assert kept["identity"]["claims"] == {}


def test_of_a_person_s_own_token_only_what_every_event_tells_is_stored() -> None:
    given = {"sub": "sample-svc", "team": ["sample"], "amr": ["pwd"], "manager": "Jane Roe"}
    kept, why = store(claims("user", **given))
    assert why == ["claims"]
    assert kept["identity"]["claims"] == {key: value for key, value in given.items() if key != "manager"}


def test_a_number_is_looked_at_like_the_text_of_it() -> None:
    class Numbers(Texts):
        def detect(self, text: str) -> list[Found]:
            return [Found("CREDIT_CARD")] if "4111111111111111" in text else []

        def clean(self, text: str) -> str:
            return text.replace("4111111111111111", "<CREDIT_CARD>")

    question = claims(card=4111111111111111, floor=3, flags=[True, 1.5])
    kept, why = storable(question, Numbers(), query=None, instruction=None, body_is_clean=True)
    assert why == ["claims"]
    assert kept["identity"]["claims"] == {"card": "<CREDIT_CARD>", "floor": 3, "flags": [True, 1.5]}
