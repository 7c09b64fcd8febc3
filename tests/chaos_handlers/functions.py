"""The functions of the handlers, and their moods."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import TYPE_CHECKING, Any

from pollin_actors import Callback, Outcome, Request
from pollin_actors.handlers import Advance, Discard, Retry
from pollin_actors.otp import ReplyFuture
from tests.chaos_handlers.book import Call, Pushed
from tests.chaos_handlers.plan import PHASES, HandlerPlan

if TYPE_CHECKING:
    from tests.chaos_handlers.world import Node, World

__all__ = ["Functions"]

MOST_HUNG = 5
DEEPEST = 3


class Functions:
    """What a handler calls.

    Args:
        world: where it happens.
        node: whose handler it is.
        plan: of the handler.
    """

    def __init__(self, world: World, node: Node, plan: HandlerPlan) -> None:
        self._world = world
        self._node = node
        self._plan = plan
        self._random: Random = world.random

    @property
    def function(self) -> Callable[..., Any]:
        """The function that the handler's options go with."""
        batch = self._plan.options["batch"] is not None
        if self._plan.kind == "sync":
            return self.batch if batch else self.one
        return self.abatch if batch else self.aone

    def one(self, callback: Callback) -> Any:
        """For one callback."""
        call = self._begin(callback)
        try:
            self._stall()
            child = self._child(callback)
            if child is not None:
                self._born(child, self._push(callback, child).get())
            return self._decide(callback, call)
        except BaseException as error:
            call.result = type(error).__name__
            raise
        finally:
            call.ended = self._now()

    async def aone(self, callback: Callback) -> Any:
        """The same as a coroutine."""
        call = self._begin(callback)
        try:
            await self._astall()
            child = self._child(callback)
            if child is not None:
                self._born(child, await self._push(callback, child))
            return self._decide(callback, call)
        except BaseException as error:
            call.result = type(error).__name__
            raise
        finally:
            call.ended = self._now()

    def batch(self, callbacks: list[Callback]) -> Any:
        """For a list: it fails as a whole, or each has its own result."""
        calls = [self._begin(callback) for callback in callbacks]
        try:
            self._stall()
            return self._decide_all(callbacks, calls)
        finally:
            self._end_all(calls)

    async def abatch(self, callbacks: list[Callback]) -> Any:
        """The same as a coroutine."""
        calls = [self._begin(callback) for callback in callbacks]
        try:
            await self._astall()
            return self._decide_all(callbacks, calls)
        finally:
            self._end_all(calls)

    # -- the book ----------------------------------------------------------------------------------

    def _now(self) -> int:
        return self._world.simulation.clock.time_ns()

    def _begin(self, callback: Callback) -> Call:
        plan, world = self._plan, self._world
        if callback.phase != plan.phase:
            world.wrong.append(f"{callback.id}: {plan.name} was given one in {callback.phase}")
        call = Call(plan.endpoint, callback.id, callback.phase, callback.attempts, self._now())
        call.number = world.book.claimed[id(callback)][1]
        world.book.calls.append(call)
        return call

    def _end_all(self, calls: list[Call]) -> None:
        for call in calls:
            call.ended = self._now()

    # -- moods -------------------------------------------------------------------------------------

    def _happens(self, what: str) -> bool:
        return not self._world.calm and self._random.random() < self._world.plan.mood[what]

    def _delay(self) -> float:
        """Seconds that it takes: often longer than it may."""
        if self._happens("slow"):
            return self._random.random() * 3
        if not self._happens("hang"):
            return 0.0
        return self._random.choice([1.0, 15.0, 25.0, 100.0])

    def _stall(self) -> None:
        world, delay = self._world, self._delay()
        # One hangs on top of the other: there is one stack.
        if delay and world.hanging < MOST_HUNG:
            world.hanging += 1
            try:
                never: ReplyFuture[None] = ReplyFuture()
                world.let_go_later(never, delay)
                never.get()
            finally:
                world.hanging -= 1

    async def _astall(self) -> None:
        delay = self._delay()
        if delay:
            late: ReplyFuture[None] = ReplyFuture()
            if delay < 100.0 or self._plan.timeout is None:
                self._world.let_go_later(late, delay)
            await late

    def _decide(self, callback: Callback, call: Call) -> Any:
        call.result = f"done {self._plan.then}"
        if self._world.is_bad(callback.id) and self._plan.max_attempts is not None:
            raise ValueError("it is bad")
        if self._happens("raise"):
            raise ValueError("a mood")
        if self._happens("exit"):
            raise SystemExit(3)
        if self._happens("retry"):
            call.result = "retry"
            after = self._random.choice([None, 0.0, self._random.random() * 10])
            return Retry(after=after, reason="" if after is None else f"after {after}")
        if self._happens("discard"):
            call.result = "discard"
            return Discard("a mood")
        if self._happens("advance"):
            phase = self._random.choice([*PHASES, "nowhere"])
            call.result = f"to {phase}"
            return Advance(phase)
        return self._random.choice([None, "anything"])

    def _decide_all(self, callbacks: list[Callback], calls: list[Call]) -> Any:
        results = []
        try:
            for callback, call in zip(callbacks, calls, strict=True):
                results.append(self._decide(callback, call))
        except BaseException as error:
            for call in calls:
                call.result = type(error).__name__
            raise
        if self._happens("raise"):
            for call in calls:
                call.result = "a wrong list"
            return [None] * (len(callbacks) + 1)
        return results

    # -- sub events --------------------------------------------------------------------------------

    def _child(self, callback: Callback) -> str | None:
        deep = callback.id.count("/") >= DEEPEST
        return f"{callback.id}/{callback.phase}" if not deep and self._happens("child") else None

    def _push(self, callback: Callback, id: str) -> ReplyFuture[Any]:
        key = callback.ordering_key
        self._world.book.pushes.setdefault((self._plan.endpoint, id), Pushed(key))
        child = Callback.new(Request([], b"{}"), id=id, parent=callback.id, ordering_key=key)
        return self._node.app.callbacks.push(self._plan.endpoint, child)

    def _born(self, id: str, result: Any) -> None:
        queued = result.outcome is Outcome.QUEUED
        if queued and (result.callback.parent is None or result.callback.root is None):
            self._world.wrong.append(f"{id}: its parent was forgotten")
        self._world.book.pushes[self._plan.endpoint, id].accepted = True
