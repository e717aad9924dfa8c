"""A call becomes one span of its caller's trace; without a collector named, nothing of OpenTelemetry is imported."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time

import pytest

from rankgate.clients.slot import Slot
from rankgate.clients.traces import NO_TRACES, tracing
from rankgate.errors import SettingsError
from rankgate.settings import TraceSettings

TRACE, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SLOT = Slot("ext_authz", 3)


def settings(**values: object) -> TraceSettings:
    return TraceSettings.model_validate(values)


async def test_a_call_becomes_one_span_of_its_callers_trace() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from fakes.collector import Collector

    began = time.time_ns()
    async with Collector() as collector:
        async with tracing(settings(endpoint=collector.url), SLOT, deployment="eu") as tracer:
            assert tracer.enabled
            attributes = {"rankgate.decision_id": "dec-1", "rankgate.allowed": False}
            tracer.span("rankgate.check", f"00-{TRACE}-{PARENT}-01", began, attributes, failed=True)
        (span,) = collector.spans
    assert (span.trace_id, span.parent_id) == (TRACE, PARENT)
    assert (span.service, span.name, span.kind, span.status) == ("rankgate-ext-authz", "rankgate.check", 2, 2)
    assert span.attributes == attributes
    assert span.start == began < span.end


async def test_the_callers_word_on_sampling_wins_and_otherwise_the_ratio() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    from fakes.collector import Collector

    async with Collector() as collector:
        for ratio in (0.0, 1.0):
            async with tracing(settings(endpoint=collector.url, ratio=ratio), SLOT, deployment="eu") as tracer:
                for name, parent in (
                    ("yes", f"00-{TRACE}-{PARENT}-01"),
                    ("no", f"00-{TRACE}-{PARENT}-00"),
                    ("own", ""),
                ):
                    tracer.span(f"{name} {ratio:g}", parent, time.time_ns(), {}, failed=False)
    assert sorted(span.name for span in collector.spans) == ["own 1", "yes 0", "yes 1"]
    (own,) = [span for span in collector.spans if span.name == "own 1"]
    assert own.parent_id == ""
    assert own.trace_id != TRACE


async def test_a_collector_that_is_out_holds_up_neither_calls_nor_the_end() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    async with asyncio.timeout(10):
        async with tracing(settings(endpoint="http://127.0.0.1:9"), SLOT, deployment="eu") as tracer:
            begun = time.monotonic()
            for _ in range(3000):  # more than the queue holds
                tracer.span("rankgate.check", "", time.time_ns(), {}, failed=False)
            assert time.monotonic() - begun < 5


async def test_a_ca_file_that_is_not_there_is_a_setting_that_cannot_work() -> None:
    pytest.importorskip("opentelemetry.sdk", reason="the extra otel is not installed")
    with pytest.raises(SettingsError, match=r"traces\.ca_file"):
        async with tracing(settings(endpoint="https://a.example:4317", ca_file="/none"), SLOT, deployment="eu"):
            pytest.fail("it started")


async def test_without_the_extra_an_endpoint_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry", None)
    with pytest.raises(SettingsError, match=r"install rankgate\[otel\]"):
        async with tracing(settings(endpoint="http://127.0.0.1:4317"), SLOT, deployment="eu"):
            pytest.fail("it started")


async def test_without_an_endpoint_spans_go_nowhere() -> None:
    async with tracing(settings(), SLOT, deployment="eu") as tracer:
        assert tracer is NO_TRACES
        assert not tracer.enabled


def test_without_an_endpoint_nothing_that_makes_or_sends_spans_is_imported() -> None:
    """redis-py imports parts of OpenTelemetry by itself where they are installed."""
    program = (
        "import asyncio, sys, ext_authz.server, ext_proc.server, rankgate.clients.serving\n"
        "from rankgate.clients.traces import tracing\n"
        "from rankgate.settings import TraceSettings\n"
        "async def main():\n"
        "    async with tracing(TraceSettings(), None, deployment='eu'): pass\n"
        "asyncio.run(main())\n"
        "parts = ('opentelemetry.sdk.trace', 'opentelemetry.exporter')\n"
        "print(sorted(name for name in sys.modules if name.startswith(parts)))\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


@pytest.mark.parametrize(
    "values",
    [
        {"endpoint": "127.0.0.1:4317"},
        {"endpoint": "grpc://127.0.0.1:4317"},
        {"endpoint": "http://127.0.0.1:4317/v1/traces"},
        {"endpoint": "http://user@127.0.0.1:4317"},
        {"endpoint": "http://127.0.0.1:4317", "ca_file": "ca.pem"},
        {"ratio": 0.5},
    ],
)
def test_an_endpoint_that_cannot_work_is_refused(values: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="traces"):
        settings(**values)
