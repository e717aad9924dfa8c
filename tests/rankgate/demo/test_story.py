"""Where there is no gate, no step of the story comes out as told: the demo cannot praise itself."""

from __future__ import annotations

import io
from collections.abc import AsyncIterator
from typing import Any

import pytest
from rich.console import Console

from rankgate.demo.caller import Caller, on_one_line
from rankgate.demo.issuer import DevIssuer
from rankgate.demo.reranker import DemoReranker
from rankgate.demo.stage import Stage
from rankgate.demo.story import STEPS, Scene, personal
from rankgate.demo.telling import PIPE_WIDTH, Step, Teller, abridged


class SilentTrail:
    """A trail in which nothing is ever recorded."""

    events: tuple[dict[str, Any], ...] = ()
    doubtful = 0

    async def decision(self, decision_id: str) -> None:
        return None

    async def completions(self, count: int) -> None:
        return None


class Nobody:
    """People at a console where nothing waits."""

    url = ""

    async def waiting(self, name: str) -> dict[str, Any]:
        return {}


@pytest.fixture
async def ungated() -> AsyncIterator[Scene]:
    """Yield a scene whose callers talk to the reranker itself, the gate left out."""
    issuer, reranker = DevIssuer(algorithm="ES256"), DemoReranker()
    await issuer.start()
    await reranker.start()
    async with Caller(reranker.url) as caller:
        yield Scene(Stage(None, Nobody(), None, issuer, reranker, "key"), caller, SilentTrail())  # type: ignore[arg-type]
    await reranker.stop()
    await issuer.stop()


@pytest.mark.parametrize("play", STEPS, ids=lambda play: play.__name__)
async def test_without_a_gate_the_step_is_not_as_told(ungated: Scene, play: Any) -> None:
    assert (await play(ungated)).faults


async def test_leaked_personal_data_is_told(ungated: Scene) -> None:
    masked = next(play for play in STEPS if play.__name__ == "masked")
    faults = (await masked(ungated)).faults
    assert "the engine should have received no personal data" in faults
    assert "the answer should hold no personal data" in faults
    assert "the caller's token should not reach the engine" in faults


def test_personal_data_is_found_with_and_without_its_spaces() -> None:
    assert personal(b"to GB82WEST12345698765432") == ["GB82 WEST 1234 5698 7654 32"]
    assert personal(b"nothing here") == []


def render(step: Step, **console: Any) -> str:
    output = io.StringIO()
    Teller(Console(file=output, highlight=False, markup=False, soft_wrap=True, **console)).step(step)
    return output.getvalue()


def test_a_fault_is_a_line_of_its_own_in_red() -> None:
    step = Step("Title", (("sent", "x"),), ("it should be 1",))
    assert "not as told: it should be 1" in render(step)
    assert "\x1b[1;31m" in render(step, force_terminal=True, color_system="standard", no_color=False)


def test_what_an_engine_sends_cannot_steer_the_terminal() -> None:
    assert "\x1b" not in render(Step("Title", (("answer", "\x1b[2Jgone [red]"),)))
    assert "[red]" in render(Step("Title", (("answer", "[red]"),)))


def test_long_bodies_are_abridged() -> None:
    assert len(abridged("b" * 500, 90)) == 90
    assert abridged("short", 90) == "short"
    assert on_one_line(b'{"a":\n 1}') == on_one_line({"a": 1}) == '{"a": 1}'
    assert max(map(len, render(Step("Title", (("answer", "b" * 500),))).splitlines())) == PIPE_WIDTH
