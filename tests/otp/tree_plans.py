"""Random supervision trees, and what is done to them: what hypothesis draws."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from hypothesis import strategies as st

from pollin_actors.otp import (
    Backoff,
)


class Boom(Exception):
    """A mistake, in whatever hook."""


class Interrupt(BaseException):
    """An interrupt from outside, as a signal handler may raise it."""


INTERRUPTS = (Interrupt, SystemExit)


@dataclass(frozen=True, slots=True)
class Plan:
    """A child, as its spec describes it."""

    restart: Any
    shutdown: Any
    named: bool
    significant: bool


@dataclass(frozen=True, slots=True)
class WorkerPlan(Plan):
    fails: frozenset[int]
    """At which starts it fails, counted over all its incarnations, and how."""
    failure: str
    on_stop: str
    waits: float
    """Seconds that its hooks wait; only then it may block."""


@dataclass(frozen=True, slots=True)
class TreePlan(Plan):
    children: tuple[Plan, ...]
    """A dynamic supervisor's are started by calls."""
    strategy: Any
    max_restarts: int
    max_seconds: float
    auto_shutdown: Any
    backoff: Backoff | None
    max_children: int | None


class Scenario(NamedTuple):
    seed: int
    tree: TreePlan
    extras: list[Plan]
    operations: list[tuple[str, int, int]]


SHUTDOWNS = st.sampled_from(["infinity", 1.0, 5.0, 0.0, "brutal_kill"])
RESTARTS = st.sampled_from(["permanent", "transient", "temporary", "permanent"])
FAILS = st.sampled_from([(), (), (), (), (2,), (2, 3), (3,), (2, 4), (1,), (1, 2)]).map(frozenset)
BACKOFFS = st.sampled_from(
    [
        None,
        Backoff(first=0.1, most=0.4, jitter=0.0),
        Backoff(first=0.2, most=1.0, reset_after=1.0, jitter=0.5),
    ]
)
MESSAGES = (
    *("value", "value", "crash", "crash", "interrupt", "exit", "refuse", "never", "soon"),
    *("detached", "relay", "wait", "ask", "stop", "Stop", "Shutdown"),
)
CALLS = (
    *("start_child", "start_child", "terminate_child", "restart_child", "delete_child"),
    *("which_children", "count_children", "which_child", "get_childspec", "tree", "unknown"),
)
OPERATIONS = (
    *("settle", "advance", "check"),
    *("ask name", "ask ref", "ask ref", "tell name", "tell ref", "crash", "crash", "crash"),
    *("stop", "call", "call", "call", "call named"),
)
STATIC = ("one_for_one", "one_for_all", "rest_for_one")


def workers(waits: tuple[float, ...]) -> st.SearchStrategy[Plan]:
    return st.builds(
        WorkerPlan,
        restart=RESTARTS,
        shutdown=SHUTDOWNS,
        named=st.booleans(),
        significant=st.booleans(),
        fails=FAILS,
        failure=st.sampled_from(["crash", "factory", "exit", "stop"]),
        on_stop=st.sampled_from(["", "", "", "crash", "interrupt"]),
        waits=st.sampled_from(waits),
    )


def trees(
    depth: int, strategies: tuple[str, ...], waits: tuple[float, ...]
) -> st.SearchStrategy[TreePlan]:
    child: st.SearchStrategy[Plan] = workers(waits)
    if depth > 1:
        child = child | trees(depth - 1, strategies, waits)
    return st.builds(
        TreePlan,
        restart=RESTARTS,
        shutdown=st.sampled_from(["infinity", "infinity", 1.0, 0.0, "brutal_kill"]),
        named=st.booleans(),
        significant=st.booleans(),
        children=st.lists(child, min_size=1, max_size=4).map(tuple),
        strategy=st.sampled_from(strategies),
        max_restarts=st.integers(0, 4),
        max_seconds=st.sampled_from([0.5, 5.0]),
        auto_shutdown=st.sampled_from(["never", "any_significant", "all_significant"]),
        backoff=BACKOFFS,
        max_children=st.sampled_from([None, 2, 4]),
    )


def scenarios(
    *,
    depth: int = 3,
    strategies: tuple[str, ...] = (*STATIC, "dynamic"),
    waits: tuple[float, ...] = (0.0, 0.0, 0.0, 0.5, 2.0),
) -> st.SearchStrategy[Scenario]:
    small = st.integers(0, 63)
    return st.builds(
        Scenario,
        seed=st.integers(0, 2**32),
        tree=trees(depth, strategies, waits),
        extras=st.lists(workers(waits) | trees(1, strategies, waits), min_size=1, max_size=3),
        operations=st.lists(
            st.tuples(st.sampled_from(OPERATIONS), small, small), min_size=10, max_size=40
        ),
    )
