"""What headers say of a trace: nothing malformed is handed on, and nothing fills the log."""

from __future__ import annotations

import logging
import random

import pytest
from opentelemetry import trace
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from pollin_actors import Request
from pollin_actors.instruments.log_context import trace_id_of
from pollin_actors.instruments.trace_headers import read_trace

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
GOOD = f"00-{TRACE}-{SPAN}-01"

BAD = [
    "",
    "garbage",
    f"00-{TRACE}-{SPAN}",
    f"00-{TRACE}-{SPAN}-",
    f"00-{TRACE}-{SPAN}-1",
    f"00-{TRACE}-{SPAN}-zz",
    f"00-{TRACE}-{SPAN}-01-more",
    f"00-{TRACE}-{SPAN}-01\n",
    f"ff-{TRACE}-{SPAN}-01",
    f"00-{'0' * 32}-{SPAN}-01",
    f"00-{TRACE}-{'0' * 16}-01",
    f"00-{TRACE.upper()}-{SPAN}-01",
    f"\u0660\u0660-{TRACE}-{SPAN}-01",
    f"01-{TRACE}-{SPAN}-01-{'x' * 600}",
    f"01-{TRACE}-{SPAN}-01 more",
    "-".join("0" * 50_000),
]


@pytest.mark.parametrize("parent", BAD, ids=lambda text: ascii(text)[:60])
def test_a_malformed_parent_is_none(parent: str) -> None:
    """Neither for traces nor for the log: both say the same."""
    headers = [("TraceParent", parent), ("tracestate", "a=1")]
    assert read_trace(headers) == {}
    assert trace_id_of(Request(headers, b"")) is None


@pytest.mark.parametrize("parent", [GOOD, f"cc-{TRACE}-{SPAN}-01", f"cc-{TRACE}-{SPAN}-01-more"])
def test_a_good_one(parent: str) -> None:
    """Also of a later version."""
    headers = [("TraceParent", parent), ("traceparents", "x"), ("user-agent", "y")]
    assert read_trace(headers) == {"traceparent": parent}
    assert trace_id_of(Request(headers, b"")) == TRACE


def test_several_are_none() -> None:
    """Nobody knows which of them was meant."""
    headers = [("traceparent", GOOD), ("Traceparent", f"00-{TRACE[::-1]}-{SPAN}-01")]
    assert read_trace(headers) == {}
    assert trace_id_of(Request(headers, b"")) is None


STATES = {
    "a=1": "a=1",
    " a=1 ,\tb@c=2 ,, ": "a=1,b@c=2",
    "a=1,a=2": None,
    "A=1": None,
    "a": None,
    "a=": None,
    "a=\x00": None,
    "a=1,b=ü": None,
    ",".join(f"k{n}=v" for n in range(32)): ",".join(f"k{n}=v" for n in range(32)),
    ",".join(f"k{n}=v" for n in range(33)): None,
    "a=" + "x" * 5_000: None,
    "," * 5_000: None,
    "a= " * 2_000: None,
}


@pytest.mark.parametrize(("state", "read"), STATES.items(), ids=lambda text: ascii(text)[:40])
def test_states(state: str, read: str | None) -> None:
    """Whole, or not at all; the parent stands without it."""
    expected = {"traceparent": GOOD} | ({} if read is None else {"tracestate": read})
    assert read_trace([("tracestate", state), ("traceparent", GOOD)]) == expected


def test_states_in_several_headers_are_one() -> None:
    headers = [("tracestate", "a=1"), ("traceparent", GOOD), ("Tracestate", "b=2")]
    assert read_trace(headers)["tracestate"] == "a=1,b=2"


def test_opentelemetry_has_nothing_to_say(caplog: pytest.LogCaptureFixture) -> None:
    """It logs what it does not like, with what was sent in it: whatever is handed on, it likes."""
    numbers = random.Random(1)
    propagator, taken = TraceContextTextMapPropagator(), 0
    letters = ["a", "b", "@", "=", ",", " ", "\t", "-", "_", "*", "/", "Z", "0", "~", "ä", "\n"]
    with caplog.at_level(logging.DEBUG, "opentelemetry"):
        for _ in range(10_000):
            parent = list(GOOD)
            if numbers.random() < 0.5:
                parent[numbers.randrange(len(parent))] = numbers.choice("0fgF- ")
            words = numbers.choices(letters, k=numbers.randrange(30))
            state = numbers.choice(["", "a=1,", "k@v=x,"]) + "".join(words)
            carrier = read_trace([("traceparent", "".join(parent)), ("tracestate", state)])
            span = trace.get_current_span(propagator.extract(carrier)).get_span_context()
            assert span.is_valid == bool(carrier)
            if "tracestate" in carrier:
                assert span.trace_state.to_header() == carrier["tracestate"]
                taken += 1
    assert caplog.records == []
    assert taken > 100
