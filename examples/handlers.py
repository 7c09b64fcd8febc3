"""What an actor can be told besides messages: time, silence, and the end of others.

Run it: ``python examples/handlers.py``. It runs in virtual time, so a minute takes no time.
"""

from __future__ import annotations

import sys
from typing import Any

import structlog

from pollin_actors.otp import (
    Actor,
    ChildSpec,
    ExitReason,
    ExitRecord,
    IdleTimeout,
    Runtime,
    Shutdown,
    Simulation,
    Stop,
    Supervisor,
)


class Session(Actor):
    """One visitor. It ends by itself when nothing was heard for half a minute."""

    never_blocks = True
    idle_timeout = 30.0

    def on_start(self) -> None:
        self.basket: list[str] = []

    def on_continue(self) -> None:
        self.basket.append("a welcome gift")  # takes long, so the starter need not wait for it

    def on_receive(self, message: Any) -> list[str]:
        if message == "pay":
            raise Stop(reply=self.basket)
        self.basket.append(message)
        return self.basket

    def on_info(self, message: Any) -> None:
        if isinstance(message, IdleTimeout):
            raise Shutdown("nobody there any more")

    def on_stop(self, reason: ExitReason = ExitReason.NORMAL) -> None:
        print(f"the session ends: {reason}")


class Desk(Actor):
    """Sees visitors come and go, and looks at its clock every 20 seconds."""

    never_blocks = True

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.clock = runtime.clock

    def on_start(self) -> None:
        self.ticks = self.send_every(20.0, "look at the clock")

    def on_receive(self, message: Any) -> None:
        self.monitor(message)  # a name, or a ref

    def on_info(self, message: Any) -> None:
        if isinstance(message, ExitRecord):
            print(f"the desk: a visitor has left, {message.detail or 'having paid'}")
        else:
            print(f"the desk: {self.clock.monotonic():.0f} s")
            if self.clock.monotonic() >= 60:
                self.ticks.cancel()


def main() -> None:
    with Simulation(seed=1) as simulation:
        runtime = simulation.runtime
        supervisor = Supervisor.start([ChildSpec("desk", lambda: Desk(runtime))], runtime=runtime)
        desk = supervisor.which_child("desk").get().ref
        assert desk is not None
        for name in ("ann", "bob"):
            spec = ChildSpec(name, Session, name=name, restart="temporary")
            supervisor.start_child(spec).get()
            desk.ask(name)
        print(runtime.registry.ask("ann", "a lamp").get())
        print(runtime.registry.ask("ann", "pay").get())
        simulation.advance(90.0)
        supervisor.stop()


if __name__ == "__main__":
    # Where the log goes is for the program to say: no library does.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
