"""Several processes on one store: kill one, halt one, restart the server, and lose nothing.

    python -m tests.kill_nodes postgres 20
    python -m tests.kill_nodes valkey 20

Three processes push, claim and advance callbacks of one endpoint. In each round one of them is
killed (SIGKILL) and another takes its place; one is stopped while it holds a claim and goes on
after its lease has ended, when its acknowledgement has to be refused; and the server is ended as a
crash would, and started again. Pushes that were answered, and each call of a handler, are noted in
a file. In the end every callback whose push was answered has been processed or is dead, and the
history tells the same as the notes.
"""

from __future__ import annotations

import contextlib
import os
import queue
import random
import selectors
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, Protocol

import structlog

from pollin_actors import Application, Callback, ClaimLost, Endpoint, PollinError, Request, Settings
from pollin_actors.handlers import Retry
from pollin_actors.otp import Backoff, OtpError
from pollin_actors.records import Kind
from tests.chaos_handlers.book import Book, Call, Pushed, check_endpoint

__all__ = ["Nodes", "Restarts"]

ENDPOINT = Endpoint.new(["received", "checked", "processed", "failed"], 0, id="e")
ATTEMPTS = 6
NODES = 3
LEASE_S = 1.0
AT_ONCE = 10
KEYS = [None, None, *map(str, range(5))]


class Restarts(Protocol):
    """A server of the tests."""

    def stop(self) -> None:
        """End it as a crash would."""

    def start(self) -> None:
        """Start it again, on the same data."""


def open_app(url: str) -> Application:
    """An application on the store."""
    return Application(url, endpoints=[ENDPOINT], settings=Settings(poll_interval=0.2))


# -- a process -------------------------------------------------------------------------------------


class Node:
    """What a child process does.

    Args:
        url: of the store.
        notes: the path of the file that all write to.
        name: its own.
    """

    def __init__(self, url: str, notes: Path, name: str) -> None:
        self._chance = random.Random(name)
        self._name = name
        self._notes = os.open(notes, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self._app = open_app(url)
        self._orders: queue.SimpleQueue[str] = queue.SimpleQueue()
        self._go = threading.Event()
        options: dict[str, Any] = {
            "dead_letter": "failed",
            "max_attempts": ATTEMPTS,
            "backoff": Backoff(first=0.02, most=0.2, jitter=1.0),
            "lease": LEASE_S,
            "concurrency": 4,
        }
        self._app.add_handler(self.check, "e", then="checked", **options)
        self._app.add_handler(self.process, "e", phase="checked", then="processed", **options)

    def run(self) -> None:
        """Work, and take orders, until it is killed."""
        structlog.configure(processors=[self._logged])
        with self._app:
            threading.Thread(target=self._push, daemon=True).start()
            threading.Thread(target=self._be_late, daemon=True).start()
            say("up")
            for order in sys.stdin:
                if order == "go\n":
                    self._go.set()
                elif order == "late\n":
                    self._late.set()
                else:
                    self._orders.put(order)

    _late = threading.Event()

    def _push(self) -> None:
        number = 0
        while self._orders.get():
            number += 1
            id, key = f"{self._name}-{number}", self._chance.choice(KEYS)
            callback = Callback.new(Request([], b"x"), id=id, ordering_key=key)
            self._note("push", id, key, "sent")
            try:
                self._app.callbacks.push("e", callback).get()
            except (PollinError, OtpError) as error:
                say(f"refused {type(error).__name__}")  # nobody knows whether it is there
            else:
                self._note("push", id, key, "answered")

    def _be_late(self) -> None:
        """Claim a callback, hold it for longer than may be, and try to acknowledge it."""
        while self._late.wait():
            self._late.clear()
            while True:
                try:
                    claims = self._app.callbacks.claim(
                        "e", phase="received", lease=LEASE_S, wait=30, by="late"
                    ).get()
                except (PollinError, OtpError):
                    continue
                if claims:
                    break
            say(f"holds {claims[0].key} {claims[0].attempt}")
            self._go.wait()
            self._go.clear()
            while True:
                try:
                    self._app.callbacks.ack(claims[0], then="checked").get()
                except ClaimLost:
                    say("late refused")
                    break
                except (PollinError, OtpError):
                    continue
                say("late taken")
                break

    def check(self, callback: Callback) -> Any:
        """The handler that is no coroutine."""
        return self._handle(callback, "checked")

    async def process(self, callback: Callback) -> Any:
        """The handler that is one."""
        return self._handle(callback, "processed")

    def _handle(self, callback: Callback, then: str) -> Any:
        self._note("call", callback.id, callback.phase, callback.attempts, time.time_ns(), "")
        say("call")
        result = "retry" if self._chance.random() < 0.1 else f"done {then}"
        self._note("call", callback.id, callback.phase, callback.attempts, time.time_ns(), result)
        return Retry() if result == "retry" else None

    def _note(self, *parts: object) -> None:
        os.write(self._notes, "\t".join(map(str, parts)).encode() + b"\n")

    @staticmethod
    def _logged(logger: Any, method: str, event: Any) -> Any:
        say(event["event"])
        raise structlog.DropEvent


def say(line: str) -> None:
    os.write(1, line.encode() + b"\n")


# -- the process that kills ------------------------------------------------------------------------


class Nodes:
    """Rounds of killing, halting and restarting.

    Args:
        url: of the store.
        server: where it is.
        folder: for notes.
        seed: of the moments at which something happens.
    """

    def __init__(self, url: str, server: Restarts, folder: Path, seed: int = 0) -> None:
        self._url = url
        self._server = server
        self._notes = folder / "notes"
        self._chance = random.Random(seed)
        self._book = Book()
        self._started = 0
        self._nodes: list[subprocess.Popen[bytes]] = []
        self._selector = selectors.DefaultSelector()
        self.acknowledged = self.killed = self.late = self.restarted = self.lapsed = 0

    def run(self, rounds: int) -> None:
        """So many rounds, then the look.

        Raises:
            AssertionError: something was lost, or the history is not true.
        """
        with open_app(self._url) as app:
            try:
                for _ in range(NODES):
                    self._start()
                for _ in range(rounds):
                    self._work(self._chance.randint(5, 40))
                    self._kill_one()
                    self._work(self._chance.randint(5, 20))
                    self._halt_one(app)
                    self._work(self._chance.randint(5, 20))
                    self._restart_server()
                self._finish(app)
                self._look(app)
            finally:
                for node in self._nodes[:]:
                    self._kill(node)

    def _start(self) -> None:
        self._started += 1
        command = [sys.executable, "-m", "tests.kill_nodes", "--child", self._url]
        node = subprocess.Popen(
            [*command, str(self._notes), f"n{self._started}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
        )
        self._nodes.append(node)
        assert node.stdout is not None
        self._selector.register(node.stdout, selectors.EVENT_READ, node)
        self._until(node, "up")

    def _kill(self, node: subprocess.Popen[bytes]) -> None:
        assert node.stdout is not None
        node.kill()
        self._selector.unregister(node.stdout)
        self._nodes.remove(node)
        with node:
            self.killed += 1

    def _order(self, node: subprocess.Popen[bytes], order: str) -> None:
        assert node.stdin is not None
        node.stdin.write(f"{order}\n".encode())

    def _read(self, timeout: float | None = None) -> list[tuple[Any, str]]:
        """What the nodes say."""
        said = []
        for ready, _ in self._selector.select(timeout):
            pipe: IO[bytes] = ready.fileobj  # type: ignore[assignment]
            data = b""
            while not data.endswith(b"\n"):
                more = os.read(pipe.fileno(), 4096)
                assert more, f"a process has ended by itself: {ready.data.wait()}"
                data += more
            said += [(ready.data, line) for line in data.decode().splitlines()]
        return said

    def _until(self, node: Any, beginning: str) -> str:
        """Wait until a node says something that begins so; the line."""
        while True:
            for who, line in self._read():
                if node in (who, None) and line.startswith(beginning):
                    return line

    def _work(self, calls: int) -> None:
        """Push, and wait for so many calls of handlers."""
        for _ in range(AT_ONCE + calls):
            self._order(self._chance.choice(self._nodes), "push")
        while calls > 0:
            calls -= sum(line == "call" for _, line in self._read())

    def _kill_one(self) -> None:
        self._kill(self._chance.choice(self._nodes))
        self._start()

    def _halt_one(self, app: Application) -> None:
        """One sleeps past its lease; what it says then comes too late."""
        node = self._chance.choice(self._nodes)
        position = self._position(app)
        self._order(node, "late")
        held: list[str] = []
        while not held:
            # One more each time, because handlers are often quicker.
            self._order(node, "push")
            held = [line for who, line in self._read(0.05) if who is node and line[:6] == "holds "]
        _, key, attempt = held[0].split()
        node.send_signal(signal.SIGSTOP)
        with app.callbacks.subscribe("e", after=position, kinds=[Kind.LAPSED]) as lapses:
            claim = (key, int(attempt))
            assert any((record.callback_id, record.attempt) == claim for record in lapses)
        node.send_signal(signal.SIGCONT)
        self._order(node, "go")
        said = self._until(node, "late ")
        assert said == "late refused", said
        self.late += 1

    @staticmethod
    def _position(app: Application) -> int:
        with app.callbacks.subscribe("e", follow=False) as subscription:
            return max((record.position for record in subscription), default=0)

    def _restart_server(self) -> None:
        self._server.stop()
        for node in self._nodes:
            self._order(node, "push")
        without = {node.pid for node in self._nodes}
        while without:
            refused = [who for who, line in self._read() if line.startswith("refused")]
            without.difference_update(who.pid for who in refused)
        self._server.start()
        self.restarted += 1
        self._work(AT_ONCE)

    def _finish(self, app: Application) -> None:
        """Until nothing is left to be handled."""
        while True:
            with contextlib.suppress(PollinError, OtpError):
                counts = [app.callbacks.count("e", phase=it).get() for it in ENDPOINT.phases[:2]]
                if not any(counts):
                    return
            self._read(0.1)

    # -- the look ----------------------------------------------------------------------------------

    def _look(self, app: Application) -> None:
        with app.callbacks.subscribe("e", follow=False) as subscription:
            records = list(subscription)
        for parts in self._read_notes():
            self._take(*parts)
        most = {"received": ATTEMPTS, "checked": ATTEMPTS}
        wrong = check_endpoint("e", records, self._book, {"received", "checked"}, most)
        # Each process dates by its own clock, before its turn: the order is that of positions.
        wrong = [line for line in wrong if "is dated before" not in line]
        assert wrong == [], "\n".join(wrong[:20])
        self.acknowledged = sum(pushed.accepted for pushed in self._book.pushes.values())
        self.lapsed = sum(record.kind is Kind.LAPSED for record in records)

    def _read_notes(self) -> Iterator[list[str]]:
        for line in self._notes.read_text().splitlines():
            yield line.split("\t")

    def _take(self, what: str, id: str, *rest: str) -> None:
        if what == "push":
            key, state = rest
            pushed = Pushed(None if key == "None" else key, accepted=state == "answered")
            self._book.pushes["e", id] = pushed
            return
        phase, attempt, at, result = rest
        if not result:
            assert not self._calls(id, phase, attempt), f"{id}: {phase}, {attempt} was called twice"
            self._book.calls.append(Call("e", id, phase, int(attempt), int(at)))
            return
        for call in self._calls(id, phase, attempt):
            call.result, call.ended = result, int(at)

    def _calls(self, id: str, phase: str, attempt: str) -> list[Call]:
        which = (id, phase, int(attempt))
        return [call for call in self._book.calls if (call.key, call.phase, call.attempt) == which]


def _servers() -> dict[str, Callable[[], tuple[str, Any]]]:
    from tests.servers import postgres, valkey

    def new_postgres() -> tuple[str, Any]:
        server = postgres.Server(fsync="on")
        server.start()
        return server.url, server

    def new_valkey() -> tuple[str, Any]:
        server = valkey.Server(valkey.ALWAYS)
        return server.url(), _Killed(server)

    return {"postgres": new_postgres, "valkey": new_valkey}


class _Killed:
    """A Valkey server, whose every end is a crash."""

    def __init__(self, server: Any) -> None:
        self._server = server
        self.start = server.start
        self.stop = server.kill
        self.remove = server.remove


@contextlib.contextmanager
def started(kind: str) -> Iterator[tuple[str, Any]]:
    """A server of its own, and the URL of a store on it."""
    url, server = _servers()[kind]()
    try:
        yield url, server
    finally:
        server.remove()


def main() -> None:
    if sys.argv[1:2] == ["--child"]:
        Node(sys.argv[2], Path(sys.argv[3]), sys.argv[4]).run()
        return
    kind, rounds = sys.argv[1], int(sys.argv[2]) if sys.argv[2:] else 20
    structlog.configure(processors=[_drop])
    with tempfile.TemporaryDirectory() as folder, started(kind) as (url, server):
        nodes = Nodes(url, server, Path(folder), random.randrange(10**9))
        nodes.run(rounds)
    print(
        f"{nodes.killed} processes killed, {nodes.late} acknowledgements came too late, "
        f"{nodes.restarted} restarts of the server, {nodes.lapsed} leases ran out; "
        f"{nodes.acknowledged} pushes were answered, none lost"
    )


def _drop(*_: object) -> Any:
    raise structlog.DropEvent


if __name__ == "__main__":
    main()
