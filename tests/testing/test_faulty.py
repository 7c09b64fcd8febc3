"""The backend that fails when it is told to: which messages, how often, before or after."""

from __future__ import annotations

import concurrent.futures
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    Endpoint,
    EndpointNotFound,
    InvalidValue,
)
from pollin_actors.backends.conformance import CHECKS, Check
from pollin_actors.backends.interface import Backend
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import Ack, ClaimSlice, Count, CreateEndpoint, Fetch, Push
from pollin_actors.otp import ReplyFuture
from pollin_actors.testing import FaultyBackend, InjectedFault, Tester

ORDERS = Endpoint.new(["received", "processed", "failed"], 0, id="orders")


class Promising(MemoryBackend):
    """Answers with futures of the standard library."""

    def execute(self, message: Any) -> Any:
        future: concurrent.futures.Future[Any] = concurrent.futures.Future()
        try:
            future.set_result(super().execute(message))
        except Exception as error:
            future.set_exception(error)
        return future


@pytest.fixture(params=["values", "futures", "sqlite"])
def backend(request: pytest.FixtureRequest, tmp_path: Path) -> FaultyBackend:
    """Over each kind of backend: answers at once, as futures of others, as futures of ours."""
    inner: dict[str, Callable[[], Backend]] = {
        "values": MemoryBackend,
        "futures": Promising,
        "sqlite": lambda: SqliteBackend(tmp_path / "inbox.db"),
    }
    return FaultyBackend(inner[request.param]())


@pytest.fixture
def tester(backend: FaultyBackend) -> Iterator[Tester]:
    with Tester(Application(endpoints=[ORDERS]), backend=backend) as tester:
        yield tester


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_is_a_backend_like_any_other_while_nothing_is_to_fail(check: Check) -> None:
    check(lambda: lambda: FaultyBackend(MemoryBackend()))


def test_faults_come_before_or_after_the_effect(tester: Tester, backend: FaultyBackend) -> None:
    for when, count in (("before", 0), ("after", 1)):
        backend.fail(Push, when=when)  # type: ignore[arg-type]
        with pytest.raises(InjectedFault, match="injected"):
            tester.push("orders", id="a")
        assert tester.app.callbacks.count("orders").get() == count
    assert tester.push("orders", id="a").outcome == "duplicate"
    assert backend.injected == 2


def test_what_the_backend_refuses_is_refused(tester: Tester, backend: FaultyBackend) -> None:
    """A message that has no effect has no answer to lose."""
    backend.fail(Push, when="after")
    with pytest.raises(EndpointNotFound):
        backend_answer(backend.execute(Push("nowhere", Callback.new(b""), None, True)))


def backend_answer(reply: Any) -> Any:
    return reply.get(timeout=10) if isinstance(reply, ReplyFuture) else reply


def test_faults_are_of_some_kinds_and_as_many_as_were_said() -> None:
    backend = FaultyBackend(MemoryBackend())
    backend.open(lambda: 1)
    backend.execute(CreateEndpoint(ORDERS))
    backend.fail(Count, times=2, skip=1)
    kinds = (Count, Fetch, Count, Fetch, Count, Count)
    assert [_fails(backend, kind("orders")) for kind in kinds] == [
        False,
        False,
        True,
        False,
        True,
        False,
    ]


def _fails(backend: FaultyBackend, message: Any) -> bool:
    try:
        backend.execute(message)
    except InjectedFault:
        return True
    return False


def test_faults_come_at_a_rate_until_they_are_healed(
    tester: Tester, backend: FaultyBackend
) -> None:
    backend.fail(Push, rate=0.5)
    failed = 0
    for number in range(100):
        try:
            tester.push("orders", id=f"c{number}")
        except BackendUnavailable:
            failed += 1
    assert 30 < failed < 70
    assert backend.injected == failed
    backend.heal()
    tester.push("orders", id="last")
    assert backend.shared is backend.inner.shared
    assert backend.durable is backend.inner.durable


def test_the_same_seed_chooses_the_same_messages() -> None:
    def run(seed: int) -> list[bool]:
        backend = FaultyBackend(MemoryBackend(), seed)
        backend.open(lambda: 1)
        backend.execute(CreateEndpoint(ORDERS))
        backend.fail(rate=0.3)
        return [_fails(backend, Count("orders")) for _ in range(50)]

    assert run(1) == run(1)
    assert run(1) != run(2)


def test_late_answers_take_virtual_time(tester: Tester, backend: FaultyBackend) -> None:
    """The effect comes at once; the answer, or the fault, when it was said."""
    backend.delay(Push, seconds=3, times=2)
    backend.fail(Push, skip=1)
    before = tester.clock.monotonic()
    assert tester.push("orders", id="a").outcome == "queued"
    assert tester.clock.monotonic() == before + 3
    with pytest.raises(InjectedFault):
        tester.push("orders", id="b")
    assert tester.clock.monotonic() == before + 6
    tester.push("orders", id="c")
    assert tester.clock.monotonic() == before + 6


def test_a_handler_gets_along_with_late_and_lost_answers(
    tester: Tester, backend: FaultyBackend
) -> None:
    """Whatever becomes of claims and acknowledgements: each callback is done in the end."""
    tester.app.add_handler(lambda callback: None, "orders", then="processed", name="h")
    tester.settle()
    backend.delay(ClaimSlice, Ack, seconds=2, rate=0.3)
    backend.fail(ClaimSlice, Ack, rate=0.2)
    backend.fail(ClaimSlice, Ack, rate=0.2, when="after")
    for number in range(30):
        tester.push("orders", id=f"o-{number}")
    tester.drain()
    tester.assert_received("orders", phase="processed", count=30)
    assert backend.injected


def test_late_answers_come_in_real_time_without_a_tester() -> None:
    backend = FaultyBackend(MemoryBackend())
    with Application(backend, endpoints=[ORDERS]) as app:
        backend.delay(Count, seconds=0.01)
        assert app.callbacks.count("orders").get(timeout=30) == 0


def test_faults_can_be_pickled() -> None:
    fault = pickle.loads(pickle.dumps(InjectedFault("after")))
    assert (fault.when, str(fault)) == ("after", str(InjectedFault("after")))


@pytest.mark.parametrize(
    "wrong", [{"when": "never"}, {"rate": 2.0}, {"times": 0}, {"skip": -1}, {"seconds": 0}]
)
def test_what_makes_no_sense_is_refused(wrong: dict[str, Any]) -> None:
    backend = FaultyBackend(MemoryBackend())
    with pytest.raises(InvalidValue, match=next(iter(wrong))):
        (backend.delay if "seconds" in wrong else backend.fail)(**wrong)
