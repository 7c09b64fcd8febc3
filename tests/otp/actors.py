"""Actors and schedulers that the runtime's tests use."""

from __future__ import annotations

import threading
from collections.abc import Callable, Hashable
from typing import Any, ClassVar

from pollin_actors.otp import Actor, Later, Ref, ReplyFuture, Runtime
from pollin_actors.otp.actor import attach
from pollin_actors.otp.cell import Cell
from pollin_actors.otp.runtime import Task
from pollin_actors.otp.simulation import SimulatedTimers


class Refused(Exception):
    """An answer, not a crash."""


class Echo(Actor):
    """Never blocks; answers what it is sent, calls what can be called, raises exceptions."""

    never_blocks: ClassVar[bool] = True
    replies: ClassVar[tuple[type[Exception], ...]] = (Refused,)

    def __init__(self, log: list[Any] | None = None, tag: Hashable = None) -> None:
        super().__init__()
        self.log: list[Any] = log if log is not None else []
        self.tag = tag

    def on_start(self) -> None:
        self.log.append(("start", self.tag))

    def on_stop(self) -> None:
        self.log.append(("stop", self.tag))

    def on_receive(self, message: Any) -> Any:
        if isinstance(message, BaseException):
            raise message
        if callable(message):
            return message()
        self.log.append(message)
        return message


class MayBlock(Echo):
    """The same for code that waits."""

    never_blocks: ClassVar[bool] = False


class Answering(Actor):
    """Answers later, with the future that it is sent."""

    never_blocks: ClassVar[bool] = True

    def on_receive(self, message: Any) -> Any:
        return Later(message)


class ManualScheduler:
    """Runs nothing by itself: a test says when."""

    simulated = False

    def __init__(self) -> None:
        self.submitted: list[Task] = []

    def start(self) -> None:
        pass

    def stop(self, timeout: float = 5.0) -> bool:
        return True

    def submit(self, mailbox: Task) -> None:
        self.submitted.append(mailbox)

    def caller_may_run(self) -> bool:
        return True

    def block(self, future: ReplyFuture[Any], timeout: float | None) -> bool:
        raise AssertionError("a real scheduler")

    def enter_wait(self, cell: Cell) -> bool:
        return False

    def exit_wait(self) -> None:
        pass

    def run_all(self) -> None:
        """Run what was submitted, and what that submits, on this thread."""
        while self.submitted:
            self.submitted.pop(0).run()


def manual_runtime() -> tuple[Runtime, ManualScheduler]:
    """A runtime whose scheduler is a ``ManualScheduler``."""
    scheduler = ManualScheduler()
    return Runtime(scheduler=scheduler), scheduler


def fire_until(timers: SimulatedTimers, due: float) -> None:
    """Fire every timer that is due by then, in seconds of virtual time."""
    while (next_due := timers.next_due()) is not None and next_due <= due:
        timers.fire_next()


def begin(actor: Actor, runtime: Runtime) -> Ref[Any]:
    """Start an actor on a runtime, without a supervisor."""
    attach(actor, runtime)
    ref = actor._actor_ref
    assert isinstance(ref, Ref)
    return ref


def in_thread(function: Callable[[], Any]) -> Any:
    """What the function returns in another thread, which must end within ten seconds."""
    results: list[Any] = []
    thread = threading.Thread(target=lambda: results.append(function()), daemon=True)
    thread.start()
    thread.join(10)
    assert not thread.is_alive(), "the other thread hangs"
    return results[0]
