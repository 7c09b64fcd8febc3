"""A supervision tree of your own: who depends on whom, a partitioned pool, a class of plain Pykka.

Run it: ``python examples/supervision_tree.py``
"""

from __future__ import annotations

import itertools
import sys
from typing import Any, ClassVar

import pykka
import structlog

from pollin_actors.otp import (
    Actor,
    ChildSpec,
    Partitions,
    PartitionSupervisor,
    Runtime,
    Stop,
    Supervisor,
)

SIZERS = Partitions("sizers", 2)

_sessions = itertools.count(1)


class Line(Actor):
    """Holds the session with a service elsewhere. Those after it in the tree depend on it."""

    never_blocks = True
    child_defaults: ClassVar[dict[str, Any]] = {"id": "line", "name": "line", "shutdown": 2.0}

    def on_start(self) -> None:
        self.session = next(_sessions)

    def on_receive(self, message: Any) -> int:
        if message == "hang up":
            raise ConnectionError("the other side hung up")
        return self.session

    def format_state(self) -> Any:
        """What crash reports may say about the state; never anything secret."""
        return {"session": self.session}


class Reader(Actor):
    """Works with the session that there was when it started: a new session needs a new reader."""

    child_defaults: ClassVar[dict[str, Any]] = {"id": "reader", "name": "reader"}

    def __init__(self, runtime: Runtime) -> None:
        super().__init__()
        self.registry = runtime.registry

    def on_start(self) -> None:
        self.session = self.registry.ask("line", "session").get()

    def on_receive(self, message: Any) -> str:
        if message == "that is all":
            raise Stop(f"the reader of session {self.session} is done")
        return f"{message}, read in session {self.session}"


class Sizer(Actor):
    """One of several: equal names always come to the same one."""

    never_blocks = True

    def __init__(self) -> None:
        super().__init__()
        self.seen: dict[str, int] = {}

    def on_receive(self, message: Any) -> str:
        self.seen[message] = self.seen.get(message, 0) + 1
        return f"{message}: {self.seen[message]}"


class Archive(pykka.ThreadingActor):
    """Written for plain Pykka; knows nothing of supervision."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def on_receive(self, message: Any) -> int:
        self.names.append(message)
        return len(self.names)


def tree(runtime: Runtime) -> list[ChildSpec]:
    """The line, who depends on it, and a pool that does not."""
    session = [
        ChildSpec.of(Line),
        ChildSpec.of(Reader, runtime),
    ]
    return [
        ChildSpec(
            id="session",
            type="supervisor",
            start=lambda: Supervisor(session, strategy="rest_for_one"),
        ),
        ChildSpec(
            id="sizers",
            type="supervisor",
            start=lambda: PartitionSupervisor(SIZERS, Sizer),
        ),
        # A class written for plain Pykka, which may wait for anything: it has its own thread.
        ChildSpec(id="archive", name="archive", start=Archive, shutdown=1.0),
    ]


def main() -> None:
    runtime = Runtime().start()
    supervisor = Supervisor.start(tree(runtime), runtime=runtime)
    ask = runtime.registry.ask
    print(ask("reader", "page 1").get())

    runtime.registry.tell("line", "hang up")
    # The line is down: this message waits for its next incarnation. One sent by ref would fail.
    session = ask("line", "session")
    print("a new session:", session.get())
    print(ask("reader", "page 2").get())

    for image in ("cat.png", "dog.png", "cat.png"):
        print(ask(SIZERS.name_for(image), image).get())
    print("archived:", ask("archive", "cat.png").get())

    print(ask("reader", "that is all").get())
    print(ask("reader", "page 3").get())  # it is permanent, so it came back
    for node in supervisor.tree().get().walk():
        print(node.id, node.state, f"restarts {node.restarts}")

    supervisor.stop()
    runtime.stop()


if __name__ == "__main__":
    # Where the log goes is for the program to say: no library does.
    structlog.configure(logger_factory=structlog.PrintLoggerFactory(sys.stderr))
    main()
