"""More races: names and supervisors that end, threads that are shut out, starts interrupted."""

from __future__ import annotations

import threading
from functools import partial
from typing import Any, ClassVar

import pytest

from pollin_actors.otp import (
    BlockingActor,
    ChildSpec,
    Runtime,
    Simulation,
    Supervisor,
)
from pollin_actors.otp.items import Item
from pollin_actors.otp.mailbox import Mailbox
from tests.interrupts import interrupt_at, interrupt_at_every_bytecode
from tests.otp.actors import Echo, MayBlock, begin, in_thread, manual_runtime
from tests.otp.test_races import Ending
from tests.otp.test_supervision_races import SECONDS, children


@pytest.mark.parametrize("reason", [KeyboardInterrupt, ValueError])
def test_an_unnamed_supervisor_crashes_before_its_named_child_can_end(reason: Any) -> None:
    """The child has been asked to end, and the pool has not come to it (or it is in a handler)."""
    runtime, scheduler = manual_runtime()

    class Crashing(Supervisor):
        def handle(self, message: Any) -> Any:
            if message == "crash":
                raise reason
            return super().handle(message)

    inner = ChildSpec(
        id="inner",
        type="supervisor",
        start=lambda: Crashing([ChildSpec(id="busy", name="busy", start=MayBlock)]),
    )
    top = begin(Supervisor([inner]), runtime)
    scheduler.run_all()
    child = runtime.registry.find("busy")
    with pytest.raises(reason):
        children(top)["inner"].ask("crash")
    # The pool's threads, as long as the one that has the child is not done with it.
    for _ in range(100):
        others = [mailbox for mailbox in scheduler.submitted if mailbox is not child]
        if not others:
            break
        scheduler.submitted.remove(others[0])
        others[0].run()
    scheduler.run_all()
    assert top.is_alive()
    hello = runtime.registry.ask("busy", "hello", timeout=None)
    scheduler.run_all()
    assert hello.get(timeout=0) == "hello"


@pytest.mark.parametrize("restart", ["transient", "temporary"])
def test_the_names_under_a_sub_supervisor_that_gave_up_for_good(restart: Any) -> None:
    """Who asks for one of them is told, also without a deadline."""
    with Simulation() as simulation:
        inner = ChildSpec(
            id="inner",
            type="supervisor",
            restart=restart,
            start=lambda: Supervisor([ChildSpec(id="a", name="a", start=Echo)], max_restarts=0),
        )
        Supervisor.start([inner], runtime=simulation.runtime)
        simulation.runtime.registry.tell("a", ValueError("a bug"))
        simulation.settle()
        late = simulation.runtime.registry.ask("a", "late", timeout=None)
        simulation.settle()
        assert late.done(), "somebody waits for ever"


def test_a_blocking_actor_is_restarted_on_its_own_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """The old thread is still in its loop when the next incarnation takes over the mailbox."""
    runtime = Runtime().start()
    attached = threading.Event()
    threads: list[tuple[str, int, threading.Thread]] = []
    made: list[Any] = []

    class Own(BlockingActor):
        use_daemon_thread: ClassVar[bool] = True

        def on_start(self) -> None:
            threads.append(("start", id(self), threading.current_thread()))

        def on_receive(self, message: Any) -> Any:
            threads.append(("receive", id(self), threading.current_thread()))
            if message == "crash":
                raise ValueError("a bug")

    def make() -> Own:
        own = Own()
        made.append(own)
        return own

    attach = Mailbox.attach

    def then_say_so(self: Any, cell: Any, *args: Any) -> None:
        attach(self, cell, *args)
        if len(made) == 2 and cell.actor is made[1]:
            attached.set()

    monkeypatch.setattr(Mailbox, "attach", then_say_so)
    try:
        Supervisor.start([ChildSpec(id="own", name="own", start=make)], runtime=runtime)
        made[0].actor_ref.monitor().add_done_callback(lambda _: attached.wait(SECONDS))
        runtime.registry.tell("own", "crash")
        assert attached.wait(SECONDS)
        runtime.registry.ask("own", "hello").get(timeout=SECONDS)
        first, second = ({t for _, who, t in threads if who == id(own)} for own in made)
        assert not first & second, threads
    finally:
        runtime.stop()


@pytest.mark.parametrize("crashes", [False, True])
def test_being_abandoned_at_any_moment_before_an_end(crashes: bool) -> None:
    """Between any two instructions of the thread that runs it."""
    subject: Ending

    def prepare() -> Ending:
        nonlocal subject
        subject = Ending(crashes)
        subject.leave.set()
        return subject

    interrupt_at_every_bytecode(
        lambda subject: subject.mailbox.run(),
        lambda subject, interrupted: subject.check(),
        prepare=prepare,
        modules=("pollin_actors.otp.turns", "pollin_actors.otp.cell"),
        error=lambda: in_thread(lambda: subject.mailbox.abandon(subject.cell)),
    )


def test_an_asker_that_runs_an_actor_that_is_abandoned_gets_no_index_error() -> None:
    """The queue under it is replaced, not emptied, by whoever shuts it out."""
    errors: list[Any] = []
    for number in range(400):
        runtime, scheduler = manual_runtime()
        ref = begin(Echo(), runtime)
        scheduler.run_all()
        mailbox = ref._cell.mailbox
        mailbox.queue.append(Item("other", None, None))
        try:
            interrupt_at(
                number,
                partial(ref.ask, "mine", block=False),
                ("pollin_actors.otp.turns", "pollin_actors.otp.mailbox"),
                partial(in_thread, partial(mailbox.abandon, ref._cell)),
            )
        except IndexError as error:
            errors.append((number, error))
    assert not errors


def test_a_start_interrupted_anywhere_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """But for its very last instruction: then the tree is the caller's already."""
    left: list[int] = []
    number, reached = 0, True
    while reached:
        runtime, scheduler = manual_runtime()

        def drive(future: Any, timeout: Any, scheduler: Any = scheduler) -> bool:
            scheduler.run_all()
            return bool(future.done())

        monkeypatch.setattr("pollin_actors.otp.futures.block_on", drive)
        reached = interrupt_at(
            number,
            partial(Supervisor.start, [ChildSpec(id=1, name="x", start=Echo)], runtime=runtime),
            (
                "pollin_actors.otp.supervisor",
                "pollin_actors.otp.actor",
                "pollin_actors.otp.mailbox",
            ),
        )
        monkeypatch.undo()
        scheduler.run_all()
        if reached and runtime.registry.whereis("x") is not None:
            left.append(number)
        number += 1
    assert left in ([], [number - 2])
