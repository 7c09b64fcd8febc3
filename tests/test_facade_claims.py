"""Claims through the facade: taking, waiting, giving back, and what forces a wake-up to be lost."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

import pykka
import pytest

from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    CallbackNotFound,
    Claim,
    ClaimLost,
    CursorConflict,
    DeadlineExceeded,
    Endpoint,
    EndpointNotFound,
    Full,
    InvalidValue,
    Kind,
    NotRunning,
    Outcome,
    TooLarge,
    UnknownPhase,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.claiming import _Claiming
from pollin_actors.messages import ClaimSlice, Consume, Extend, Push, Release
from pollin_actors.otp import ReplyFuture, Simulation
from pollin_actors.past import CallbackTree, _grow
from pollin_actors.settings import Settings

SECONDS = 10.0
T = TypeVar("T")
PHASES = ["received", "processed", "failed"]


def endpoint(id: str = "orders", **more: Any) -> Endpoint:
    return Endpoint.new(PHASES, 0, id=id, **more)


class Late(MemoryBackend):
    """Answers with futures, from a thread of its own, as databases do."""

    def open(self, time_ns: Callable[[], int]) -> None:
        super().open(time_ns)
        self._pool = ThreadPoolExecutor(1)

    def execute(self, message: Any) -> Any:
        return self._pool.submit(super().execute, message)

    def close(self) -> None:
        self._pool.shutdown()
        super().close()


@pytest.fixture(params=[MemoryBackend, Late, SqliteBackend])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    kind = request.param
    backend = kind(tmp_path / "inbox.db") if kind is SqliteBackend else kind()
    with Application(backend, endpoints=[endpoint()]) as app:
        yield app


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(seed=5) as simulation:
        yield simulation


@pytest.fixture
def simulated(simulation: Simulation) -> Iterator[Application]:
    with Application(MemoryBackend(), endpoints=[endpoint()], runtime=simulation.runtime) as app:
        yield app


def push(app: Application, *ids: str, **more: Any) -> None:
    for id in ids:
        app.callbacks.push("orders", Callback.new(b"x", id=id), **more).get()


def take(app: Application, **more: Any) -> Claim:
    [claim] = app.callbacks.claim("orders", **more).get()
    return claim


def kinds(app: Application, key: str) -> list[Kind]:
    return [record.kind for record in app.callbacks.history("orders", key=key).get()]


class Waiter:
    """A thread that waits for a claim: what came of it, and when it had begun to wait."""

    def __init__(self, app: Application, **more: Any) -> None:
        self.result: list[Any] = []
        self.reply = app.callbacks.claim("orders", wait=SECONDS, **more)
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result.append(self.reply.get())
        except Exception as error:
            self.result.append(error)

    def end(self) -> Any:
        self._thread.join(SECONDS)
        assert not self._thread.is_alive(), "it still waits"
        return self.result[0]


# -- what becomes of a claim -----------------------------------------------------------------------


def test_claims_come_oldest_first_and_nobody_else_gets_them(app: Application) -> None:
    push(app, "a", "b", "c")
    first = app.callbacks.claim("orders", limit=2, by="me").get()
    assert [claim.key for claim in first] == ["a", "b"]
    assert [claim.attempt for claim in first] == [1, 1]
    assert [claim.key for claim in app.callbacks.claim("orders", limit=9).get()] == ["c"]
    assert app.callbacks.claim("orders").get() == []
    assert app.callbacks.history("orders", key="a").get()[-1].by == "me"


def test_what_is_acknowledged_goes_on_or_out(app: Application) -> None:
    push(app, "a", "b")
    app.callbacks.ack(take(app), then="processed").get()
    app.callbacks.ack(take(app, phase="received")).get()
    assert app.callbacks.fetch("orders", key="a").get().phase == "processed"  # type: ignore[union-attr]
    assert app.callbacks.fetch("orders", key="b").get() is None
    with pytest.raises(UnknownPhase):
        app.callbacks.claim("orders", phase="nowhere").get()


def test_what_failed_comes_again_after_its_delay_or_goes_to_the_dead(
    simulated: Application, simulation: Simulation
) -> None:
    push(simulated, "a")
    simulated.callbacks.nack(take(simulated), retry_in=60.0, reason="busy").get()
    assert simulated.callbacks.claim("orders").get() == []
    simulation.advance(60.0)
    again = take(simulated)
    assert again.attempt == 2
    simulated.callbacks.nack(again, reason="no use", dead_letter="failed").get()
    record = simulated.callbacks.history("orders", key="a").get()[-1]
    assert (record.kind, record.reason, record.to_phase) == (Kind.DEAD, "no use", "failed")


def test_what_is_released_was_no_attempt_and_what_is_discarded_is_gone(app: Application) -> None:
    push(app, "a")
    app.callbacks.release(take(app)).get()
    claim = take(app)
    assert claim.attempt == 1
    app.callbacks.discard(claim, "not ours").get()
    record = app.callbacks.history("orders", key="a").get()[-1]
    assert (record.kind, record.reason) == (Kind.DISCARDED, "not ours")
    with pytest.raises(ClaimLost):
        app.callbacks.ack(claim).get()


def test_a_claim_that_is_extended_holds_longer(
    simulated: Application, simulation: Simulation
) -> None:
    push(simulated, "a")
    claim = take(simulated, lease=10.0)
    simulation.advance(9.0)
    longer = simulated.callbacks.extend(claim, lease=10.0).get()
    assert longer.until == claim.until + 9_000_000_000
    assert (longer.token, longer.callback) == (claim.token, claim.callback)
    simulation.advance(9.0)
    assert simulated.callbacks.claim("orders").get() == []
    simulation.advance(1.0)
    with pytest.raises(ClaimLost):
        simulated.callbacks.ack(longer).get()
    with pytest.raises(ClaimLost):
        simulated.callbacks.extend(longer).get()


@pytest.mark.parametrize("call", ["ack", "nack", "release", "discard", "extend"])
def test_what_is_no_claim_is_refused(app: Application, call: str) -> None:
    with pytest.raises(InvalidValue, match="claim"):
        getattr(app.callbacks, call)("token").get()


@pytest.mark.parametrize("wait", [-1.0, math.nan, True, "1", 10**400])
def test_a_wait_that_is_none_is_refused(app: Application, wait: Any) -> None:
    with pytest.raises(InvalidValue, match="wait"):
        app.callbacks.claim("orders", wait=wait).get()


def test_an_owner_that_is_none_is_refused(app: Application) -> None:
    with pytest.raises(InvalidValue, match="owner"):
        app.callbacks.claim("orders", owner="me").get()  # type: ignore[arg-type]


def test_claims_can_be_awaited(app: Application) -> None:
    async def work() -> list[str]:
        await app.callbacks.push("orders", Callback.new(b"x", id="a"))
        [claim] = await app.callbacks.claim("orders", wait=SECONDS)
        claim = await app.callbacks.extend(claim, lease=60.0)
        await app.callbacks.ack(claim)
        return [record.kind for record in await app.callbacks.history("orders", key="a")]

    assert asyncio.run(work()) == [Kind.PUSHED, Kind.CLAIMED, Kind.ACKNOWLEDGED]


# -- waiting ---------------------------------------------------------------------------------------


def test_a_push_wakes_who_waits(app: Application) -> None:
    waiter = Waiter(app)
    push(app, "a")
    assert [claim.key for claim in waiter.end()] == ["a"]


def test_without_anything_the_answer_is_empty_after_the_time_to_wait(
    simulated: Application, simulation: Simulation
) -> None:
    before = simulation.clock.monotonic()
    assert simulated.callbacks.claim("orders", wait=7.0).get() == []
    assert simulation.clock.monotonic() == before + 7.0
    assert simulated.callbacks._changes._watchers == {}


def test_who_waits_looks_only_when_there_is_something_to_be_seen(simulation: Simulation) -> None:
    """No polling where nobody else changes the store, and no look wakes the next."""
    looks: list[ClaimSlice] = []

    class Counting(MemoryBackend):
        def execute(self, message: Any) -> Any:
            if isinstance(message, ClaimSlice):
                looks.append(message)
            return super().execute(message)

    with Application(Counting(), endpoints=[endpoint()], runtime=simulation.runtime) as app:
        waiting = [app.callbacks.claim("orders", wait=math.inf, timeout=None) for _ in range(3)]
        simulation.advance(3600.0)
        assert len(looks) == 3
        push(app, "a", "b", "c")
        assert sorted(claim.key for reply in waiting for claim in reply.get()) == ["a", "b", "c"]
        assert len(looks) < 20


@pytest.mark.parametrize("how", ["delay", "lease", "retry"])
def test_what_becomes_available_by_itself_wakes_who_waits(
    simulated: Application, simulation: Simulation, how: str
) -> None:
    """A time that was told is waited for, and no longer."""
    now = simulation.clock.time_ns()
    if how == "delay":
        push(simulated, "a", not_before=now + 20_000_000_000)
    else:
        push(simulated, "a")
        claim = take(simulated, lease=20.0)
        if how == "retry":
            simulated.callbacks.nack(claim, retry_in=20.0).get()
        elif how == "front":
            push(simulated, "b")
            simulated.callbacks.ack(claim, then="processed").get()
            simulated.callbacks.nack(take(simulated), retry_in=20.0).get()
    [found] = simulated.callbacks.claim("orders", wait=100.0).get()
    assert found.key == "a"
    assert simulation.clock.time_ns() - now == pytest.approx(20e9, abs=2e6)


def test_other_processes_changes_are_found_by_looking_again(simulation: Simulation) -> None:
    class Shared(MemoryBackend):
        shared = True

    backend = Shared()
    with Application(backend, endpoints=[endpoint()], runtime=simulation.runtime) as app:
        reply = app.callbacks.claim("orders", wait=100.0)
        simulation.advance(10.0)
        # As another process would: none of our actors is told.
        backend.execute(Push("orders", Callback.new(b"x", id="a"), None, True))
        before = simulation.clock.monotonic()
        assert [claim.key for claim in reply.get()] == ["a"]
        assert simulation.clock.monotonic() - before <= 1.0


def test_the_end_of_an_endpoint_or_of_the_application_ends_the_wait(app: Application) -> None:
    waiter = Waiter(app)
    app.endpoints.delete("orders").get()
    assert isinstance(waiter.end(), EndpointNotFound)
    app.endpoints.create(endpoint()).get()
    waiter = Waiter(app)
    app.stop()
    assert isinstance(waiter.end(), NotRunning)
    with pytest.raises(NotRunning):
        app.callbacks.claim("orders")


def test_waiting_may_be_awaited_too(app: Application) -> None:
    async def work() -> list[Claim]:
        waiting = asyncio.ensure_future(_awaited(app.callbacks.claim("orders", wait=SECONDS)))
        await asyncio.to_thread(push, app, "a")
        return await waiting

    assert [claim.key for claim in asyncio.run(work())] == ["a"]


async def _awaited(reply: ReplyFuture[T]) -> T:
    return await reply


# -- interleavings ---------------------------------------------------------------------------------


class Stepped(MemoryBackend):
    """Answers claims when the test says: each is carried out, and its answer held back."""

    def __init__(self) -> None:
        super().__init__()
        self.held: list[tuple[ReplyFuture[Any], Any]] = []
        self.holding = False
        self.before: Callable[[], None] | None = None

    def execute(self, message: Any) -> Any:
        if not isinstance(message, ClaimSlice) or not self.holding:
            return super().execute(message)
        reply: ReplyFuture[Any] = ReplyFuture()
        self.held.append((reply, super().execute(message)))
        return reply

    def answer(self) -> None:
        reply, value = self.held.pop(0)
        reply.set(value)


@pytest.fixture
def stepped() -> Iterator[tuple[Stepped, Application]]:
    backend = Stepped()
    with Application(backend, endpoints=[endpoint()]) as app:
        backend.holding = True
        yield backend, app
        backend.holding = False


def test_a_push_between_a_look_and_its_answer_is_not_missed(
    stepped: tuple[Stepped, Application],
) -> None:
    """The look has found nothing, and its answer is on its way, when the push comes."""
    backend, app = stepped
    reply = app.callbacks.claim("orders", wait=SECONDS)
    push(app, "a")
    backend.answer()
    assert len(backend.held) == 1, "it must look again"
    backend.answer()
    assert [claim.key for claim in reply.get()] == ["a"]
    assert app.callbacks._changes._watchers == {}


def test_a_push_right_after_the_empty_answer_is_not_missed(
    stepped: tuple[Stepped, Application],
) -> None:
    backend, app = stepped
    reply = app.callbacks.claim("orders", wait=SECONDS)
    backend.answer()
    assert backend.held == []
    push(app, "a")
    backend.answer()
    assert [claim.key for claim in reply.get()] == ["a"]


def test_time_that_runs_out_during_a_look_leaves_the_look_to_answer(
    simulation: Simulation,
) -> None:
    backend = Stepped()
    with Application(backend, endpoints=[endpoint()], runtime=simulation.runtime) as app:
        push(app, "a")
        backend.holding = True
        reply = app.callbacks.claim("orders", wait=1.0, timeout=None)
        simulation.advance(5.0)
        assert not reply.done()
        backend.answer()
        assert [claim.key for claim in reply.get()] == ["a"]
        second = app.callbacks.claim("orders", wait=1.0, timeout=None)
        simulation.advance(5.0)
        backend.answer()
        assert second.get() == []
        assert app.callbacks._changes._watchers == {}


def test_claims_that_come_after_the_deadline_are_released(
    stepped: tuple[Stepped, Application],
) -> None:
    """Nobody knows their tokens: they are not kept from others until the lease ends."""
    backend, app = stepped
    push(app, "a")
    reply = app.callbacks.claim("orders", timeout=0.001)
    with pytest.raises(DeadlineExceeded):
        reply.get()
    backend.answer()
    assert kinds(app, "a") == [Kind.PUSHED, Kind.CLAIMED, Kind.RELEASED]


def test_claims_for_a_coroutine_that_was_cancelled_are_released(
    stepped: tuple[Stepped, Application],
) -> None:
    backend, app = stepped
    push(app, "a")

    async def impatient() -> None:
        waiting = asyncio.ensure_future(_awaited(app.callbacks.claim("orders", wait=SECONDS)))
        while not backend.held:
            await asyncio.to_thread(app.callbacks.count("orders").get)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(impatient())
    assert app.callbacks._changes._watchers == {}
    backend.answer()
    assert kinds(app, "a") == [Kind.PUSHED, Kind.CLAIMED, Kind.RELEASED]


def test_a_wait_that_was_given_up_can_be_taken_up_again(app: Application) -> None:
    """``get(timeout=…)`` bounds that wait only, as everywhere."""
    reply = app.callbacks.claim("orders", wait=SECONDS)
    with pytest.raises(pykka.Timeout):
        reply.get(timeout=0.001)
    push(app, "a")
    assert [claim.key for claim in reply.get()] == ["a"]


def test_many_who_wait_and_many_who_push_lose_nothing(app: Application) -> None:
    """Real threads, no order but chance: each callback is claimed by exactly one."""
    calls = app.callbacks
    worked: list[str] = []

    def work() -> None:
        while claims := calls.claim("orders", limit=3, wait=SECONDS).get():
            for number, claim in enumerate(claims):
                calls.ack(claim).get()
                if claim.key.startswith("end"):
                    for other in claims[number + 1 :]:
                        calls.release(other).get()
                    return
                worked.append(claim.key)

    def send(number: int) -> None:
        push(app, *(f"{number}-{n}" for n in range(50)))

    workers = [threading.Thread(target=work) for _ in range(4)]
    senders = [threading.Thread(target=send, args=(number,)) for number in range(4)]
    for thread in (*workers, *senders):
        thread.start()
    for sender in senders:
        sender.join(SECONDS)
    push(app, *(f"end-{number}" for number in range(4)))
    for worker in workers:
        worker.join(SECONDS)
    assert not any(worker.is_alive() for worker in workers)
    assert sorted(worked) == sorted(f"{number}-{n}" for number in range(4) for n in range(50))


def test_claims_that_had_come_when_the_coroutine_was_cancelled_are_released(
    stepped: tuple[Stepped, Application],
) -> None:
    """The answer is there, and the event loop has not told the coroutine."""
    backend, app = stepped
    push(app, "a")

    async def impatient() -> None:
        waiting = asyncio.ensure_future(_awaited(app.callbacks.claim("orders", wait=SECONDS)))
        while not backend.held:
            await asyncio.to_thread(app.callbacks.count("orders").get)
        backend.answer()
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting

    asyncio.run(impatient())
    app.callbacks.count("orders").get()
    assert kinds(app, "a") == [Kind.PUSHED, Kind.CLAIMED, Kind.RELEASED]


def test_an_interrupt_of_who_pushes_does_not_cost_the_waiter_its_claim(
    simulated: Application, simulation: Simulation, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ctrl-C between a push and the look that it brings about: the look comes later."""
    reply = simulated.callbacks.claim("orders", wait=60.0)
    simulation.settle()
    look = _Claiming._look

    def interrupted(claiming: _Claiming) -> None:
        monkeypatch.setattr(_Claiming, "_look", look)
        raise KeyboardInterrupt

    monkeypatch.setattr(_Claiming, "_look", interrupted)
    simulated.backend.execute(Push("orders", Callback.new(b"x", id="a"), None, True))
    with pytest.raises(KeyboardInterrupt):
        simulated.callbacks._changes.happened("orders")
    assert [claim.key for claim in reply.get()] == ["a"]
    assert simulation.clock.monotonic() < 1.0


def test_the_restart_of_an_endpoints_actor_is_a_change() -> None:
    """It may have ended between a change and the telling of it."""
    told: list[str] = []

    class Poisoned(MemoryBackend):
        def execute(self, message: Any) -> Any:
            if isinstance(message, Extend):
                raise ZeroDivisionError
            return super().execute(message)

    with Application(Poisoned(), endpoints=[endpoint()]) as app:
        push(app, "a")
        claim = take(app)
        app.callbacks._changes.watch("orders", lambda: told.append("orders"))
        with pytest.raises(ZeroDivisionError):
            app.callbacks.extend(claim).get()
        assert app.callbacks.count("orders").get() == 1
        assert told == ["orders"]


@pytest.mark.parametrize("late", [False, True])
def test_what_changes_an_endpoint_is_told(late: bool) -> None:
    told: list[None] = []
    with Application(Late() if late else MemoryBackend()) as app:
        app.callbacks._changes.watch("orders", lambda: told.append(None))
        ref = app.endpoints.ref().get()
        made = endpoint()
        for call in (
            lambda: app.endpoints.create(made).get(),
            lambda: app.endpoints.update(made).get(),
            lambda: ref.ask(Consume("orders", "received")),
            lambda: app.endpoints.delete("orders").get(),
        ):
            before = len(told)
            call()
            assert len(told) > before


# -- pushes with more, and the past ----------------------------------------------------------------


def test_push_takes_parent_time_and_key(app: Application) -> None:
    push(app, "a")
    later = datetime(2100, 1, 1, tzinfo=UTC)
    push(app, "b", parent="a", not_before=later, ordering_key="k")
    stored = app.callbacks.fetch("orders", key="b").get()
    assert stored is not None
    assert (stored.parent, stored.root, stored.ordering_key) == ("a", "a", "k")
    assert stored.not_before == 4_102_444_800_000_000_000
    assert stored.created_at > 0
    with pytest.raises(InvalidValue, match="not_before"):
        push(app, "c", not_before=datetime(2100, 1, 1))
    with pytest.raises(InvalidValue, match="ordering_key"):
        push(app, "c", ordering_key="")
    with pytest.raises(CallbackNotFound):
        push(app, "c", parent="nobody")


def test_a_full_endpoint_says_so() -> None:
    with Application(MemoryBackend(), endpoints=[endpoint(capacity=1)]) as app:
        push(app, "a")
        with pytest.raises(Full):
            push(app, "b")


def test_stats_say_how_an_endpoint_stands(app: Application) -> None:
    push(app, "a", "b")
    push(app, "c", not_before=datetime(2100, 1, 1, tzinfo=UTC))
    take(app)
    stats = app.callbacks.stats("orders").get()
    assert (stats.queued, stats.size, stats.claimed, stats.delayed) == (3, 3, 1, 1)


@pytest.mark.parametrize("key", ["a", "a1", "a11", "b"])
def test_the_tree_of_an_event_is_whole_from_wherever_it_is_asked_for(
    app: Application, key: str
) -> None:
    push(app, "a", "b")
    push(app, "a1", "a2", parent="a")
    push(app, "a11", parent="a1")
    app.callbacks.pop("orders", key="a").get()
    app.callbacks.pop("orders", key="a1").get()
    tree = app.callbacks.tree("orders", key=key).get()
    assert [c.id for c in tree] == (["b"] if key == "b" else ["a", "a1", "a11", "a2"])
    deep = app.callbacks.children("orders", key="a", deep=True).get()
    assert [c.id for c in deep] == ["a1", "a2", "a11"]
    assert [c.id for c in app.callbacks.children("orders", key="a").get()] == ["a1", "a2"]


def test_a_tree_whose_root_is_forgotten_begins_with_what_is_known() -> None:
    with Application(MemoryBackend(), endpoints=[endpoint(keep_for=0)]) as app:
        push(app, "a")
        push(app, "b", parent="a")
        push(app, "c", parent="b")
        app.callbacks.pop("orders", key="a").get()
        tree = app.callbacks.tree("orders", key="c").get()
        assert [c.id for c in tree] == ["b", "c"]
        with pytest.raises(CallbackNotFound):
            app.callbacks.tree("orders", key="a").get()


def test_a_long_line_needs_no_deep_stack() -> None:
    """Each a sub event of the one before: longer than Python's stack is deep."""
    first, *others = [
        Callback.new(b"x", id=str(n), parent=str(n - 1) if n else None) for n in range(5000)
    ]
    assert [c.id for c in _grow(first, others)] == [str(n) for n in range(5000)]


def test_a_tree_can_be_awaited(app: Application) -> None:
    push(app, "a")
    push(app, "b", parent="a")

    async def work() -> CallbackTree:
        return await app.callbacks.tree("orders", key="b")

    tree = asyncio.run(work())
    assert (tree.callback.id, tree.children[0].callback.id) == ("a", "b")


def test_a_cursor_moves_with_what_is_pushed_or_not_at_all() -> None:
    settings = Settings(max_bytes=10)
    with Application(MemoryBackend(), endpoints=[endpoint()], settings=settings) as app:
        moves = app.callbacks.move_cursor
        [result] = moves("orders", "billing", 7, expect=0, pushes=[Callback.new(b"x")]).get()
        assert result.outcome is Outcome.QUEUED
        assert app.callbacks.cursor("orders", "billing").get() == 7
        with pytest.raises(CursorConflict):
            moves("orders", "billing", 9, expect=0, pushes=[Callback.new(b"y")]).get()
        with pytest.raises(TooLarge):
            moves("orders", "billing", 9, pushes=[Callback.new(b"y" * 11)]).get()
        with pytest.raises(InvalidValue, match="pushes"):
            moves("orders", "billing", 9, pushes=["x"]).get()  # type: ignore[list-item]
        assert app.callbacks.cursor("orders", "billing").get() == 7
        assert app.callbacks.count("orders").get() == 1


def test_an_extension_or_release_that_fails_says_so_in_its_reply() -> None:
    """A failure of the backend is the reply's, and the claim may still hold."""

    class Failing(MemoryBackend):
        def execute(self, message: Any) -> Any:
            if isinstance(message, Extend | Release):
                raise BackendUnavailable("list", "on purpose")
            return super().execute(message)

    with Application(Failing(), endpoints=[endpoint()]) as app:
        push(app, "a")
        claim = take(app)
        for reply in (app.callbacks.extend(claim), app.callbacks.release(claim)):
            with pytest.raises(BackendUnavailable):
                reply.get()
        app.callbacks.ack(claim).get()


def test_what_has_left_the_queue_is_fetched_if_it_is_asked_for(app: Application) -> None:
    push(app, "a")
    app.callbacks.pop("orders").get()
    assert app.callbacks.fetch("orders", key="a").get() is None
    kept = app.callbacks.fetch("orders", key="a", kept=True).get()
    assert kept is not None
    assert kept.request == b"x"
