"""Child specs, restart intensity and back-off: pure rules."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollin_actors.otp import Backoff, ChildSpec, Intensity, InvalidSpec
from tests.otp.actors import Echo


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        ("id", None, "hashable"),
        ("id", [], "hashable"),
        ("start", Echo(), "a class or a function"),
        ("restart", "always", "permanent, transient or temporary"),
        ("shutdown", -1, "seconds >= 0"),
        ("shutdown", True, "seconds >= 0"),
        ("shutdown", "soon", "seconds >= 0"),
        ("shutdown", float("nan"), "seconds >= 0"),
        ("type", "manager", "worker or supervisor"),
    ],
)
def test_a_spec_says_which_field_is_wrong(field: str, value: Any, expected: str) -> None:
    fields: dict[str, Any] = {"id": "a", "start": Echo, field: value}
    with pytest.raises(InvalidSpec, match=expected) as caught:
        ChildSpec(**fields)
    assert caught.value.field == f"ChildSpec.{field}"
    assert repr(value) in str(caught.value)


def test_a_spec_reads_back_with_its_defaults() -> None:
    worker = ChildSpec(id="a", start=Echo)
    assert (worker.restart, worker.shutdown, worker.type) == ("permanent", 5.0, "worker")
    supervisor = ChildSpec(id="b", start=Echo, type="supervisor")
    assert supervisor.shutdown == "infinity"
    assert supervisor.shutdown_seconds is None
    assert ChildSpec(id="c", start=Echo, shutdown="brutal_kill").shutdown_seconds == 0.0


@pytest.mark.parametrize("restarts", [-1, 1.5, True, "3"])
def test_max_restarts_is_an_int_from_zero(restarts: Any) -> None:
    with pytest.raises(InvalidSpec, match="max_restarts: expected an int >= 0"):
        Intensity(restarts, 5)


@pytest.mark.parametrize("seconds", [0, -1, float("inf"), True, "5"])
def test_max_seconds_is_positive(seconds: Any) -> None:
    with pytest.raises(InvalidSpec, match="max_seconds"):
        Intensity(3, seconds)


def test_three_in_five_serves_three_and_trips_at_the_fourth() -> None:
    intensity, history = Intensity(3, 5.0), list[float]()
    for moment, expected in [(0.0, True), (1.0, True), (2.0, True), (5.0, False)]:
        history, allowed = intensity.record(history, moment)
        assert allowed is expected


def test_an_attempt_counts_up_to_and_including_max_seconds() -> None:
    intensity = Intensity(1, 5.0)
    assert intensity.record([0.0], 5.0) == ([0.0, 5.0], False)
    assert intensity.record([0.0], 5.001) == ([5.001], True)


def test_zero_trips_at_the_first() -> None:
    assert Intensity(0, 5.0).record([], 1.0) == ([1.0], False)


def test_budget_one_in_one_second_survives_a_crash_every_two() -> None:
    intensity, history = Intensity(1, 1.0), list[float]()
    for number in range(50):
        history, allowed = intensity.record(history, number * 2.1)
        assert allowed
        assert len(history) == 1


@given(
    st.integers(0, 5),
    st.floats(0.1, 10),
    st.lists(st.floats(0, 3), max_size=40),
)
def test_the_window_is_what_its_definition_says(
    most: int, seconds: float, gaps: list[float]
) -> None:
    """Compared with counting all attempts anew each time."""
    intensity = Intensity(most, seconds)
    history, attempts, now = list[float](), list[float](), 0.0
    for gap in gaps:
        now += gap
        attempts.append(now)
        history, allowed = intensity.record(history, now)
        assert allowed is (sum(now - t <= seconds for t in attempts) <= most)


def test_back_off_doubles_up_to_its_most() -> None:
    backoff = Backoff(first=0.1, most=1.0)
    assert [backoff.delay(n) for n in range(1, 8)] == [0.0, 0.1, 0.2, 0.4, 0.8, 1.0, 1.0]
    assert backoff.delay(10_000) == 1.0


@pytest.mark.parametrize("field", ["first", "most", "reset_after"])
def test_back_off_takes_seconds(field: str) -> None:
    with pytest.raises(InvalidSpec, match=f"Backoff.{field}"):
        Backoff(**{field: -1})
