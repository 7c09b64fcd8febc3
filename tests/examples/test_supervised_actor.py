"""examples/supervised_actor.py: an actor crashes and comes back; what its name was sent waits."""

from __future__ import annotations

from examples import supervised_actor
from examples.supervised_actor import Courier, Deliver, Gateway
from pollin_actors import Application
from pollin_actors.otp import ChildSpec
from tests.examples.programs import run


def test_it_runs_as_a_program() -> None:
    """Before and after the crash the name answers; the refusal crashes nobody."""
    printed = run("supervised_actor").splitlines()
    lines = [line for line in printed if line.startswith(("a ", "refused", "crashed:"))]
    assert lines == [
        "a book went by connection 1",
        "refused: a parcel needs a name",
        "crashed: a lamp was not sent",
        "a chair went by connection 2",
    ]


def test_a_message_sent_during_the_restart_is_handled_by_the_next_incarnation() -> None:
    """The restart is held up at its start; what is sent meanwhile waits, and is handled after."""
    gateway = Gateway()
    spec = ChildSpec(id="courier", name="courier", start=lambda: Courier(gateway))
    with Application(children=[spec]) as app:
        first = app.whereis("courier")
        assert first is not None
        assert app.ask("courier", Deliver("a book")).get() == "a book went by connection 1"
        ended = first.monitor()
        gateway.reachable.clear()
        app.tell("courier", Deliver("a lamp"))
        assert isinstance(ended.get(timeout=60).exception, ConnectionError)
        chair = app.ask("courier", Deliver("a chair"), timeout=None)
        assert not chair.done()
        gateway.reachable.set()
        assert chair.get(timeout=60) == "a chair went by connection 2"
        assert app.whereis("courier") != first


def test_main_can_be_called() -> None:
    """The program's main runs within another program, and leaves nothing behind it to wait for."""
    supervised_actor.main()
