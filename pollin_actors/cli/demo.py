"""``pollin demo``: an inbox at work, to look at."""

from __future__ import annotations

import argparse
import contextlib
import logging
import os
import queue
import random
import secrets
import signal
import sys
import threading
import time
from collections import Counter, deque
from collections.abc import Iterator
from importlib.util import find_spec
from types import FrameType
from typing import TYPE_CHECKING, Any

from pollin_actors.application import Application
from pollin_actors.cli import serve
from pollin_actors.cli.demo_senders import Answered, Senders
from pollin_actors.cli.demo_shop import ENDPOINTS, Shop
from pollin_actors.cli.inbox import Inbox, Json
from pollin_actors.cli.local import Local
from pollin_actors.cli.logs import log_to_stderr
from pollin_actors.cli.options import Commands, add_command, output_of, seconds, whole
from pollin_actors.cli.output import Output, note
from pollin_actors.cli.past import end_of
from pollin_actors.cli.screen import one_line
from pollin_actors.cli.top import look, rendered, tables
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import NotRunning, PollinError
from pollin_actors.otp import Event
from pollin_actors.otp.events import Crashed, Restarting
from pollin_actors.records import Record
from pollin_actors.web import asgi

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["add_parser"]

OUTAGE_EVERY_S, OUTAGE_S = 8.0, 3.0
REFRESH_S = 0.25
LAST = 12


def add_parser(commands: Commands) -> None:
    """Add the command to the parser of ``pollin``."""
    parser = add_command(
        commands,
        "demo",
        demo,
        "show an inbox at work: traffic, failures, crashes, recoveries",
        "Run a shop with signed webhooks, handlers that fail and recover, sub events, dead letters "
        "and an actor that crashes, and show it until Ctrl-C. With the extra server there is a "
        "receiver, and the admin API, to be looked at from another terminal. In JSON: one event a "
        "line, in the end a summary.",
        backend=False,
        server=False,
    )
    parser.add_argument("--seconds", type=seconds, help="end after so long (default: Ctrl-C)")
    parser.add_argument(
        "--rate", type=seconds, default=8.0, help="webhooks per second (default: 8)"
    )
    parser.add_argument("--seed", type=whole, help="of what happens by chance (default: a new one)")
    parser.add_argument(
        "--backend", metavar="URL", default="memory://", help="(default: memory://, which is lost)"
    )
    parser.add_argument(
        "--port", type=whole, default=0, help="of the receiver (default: any that is free)"
    )


def demo(arguments: argparse.Namespace) -> int:
    """Run the shop."""
    output = output_of(arguments)
    seed = random.randrange(1 << 32) if arguments.seed is None else arguments.seed
    with log_to_stderr(logging.CRITICAL), _stopped_by_signals() as stop:
        show = _Show(output)
        shop = Shop(arguments.backend, show.actor_event, seed)
        with (
            Local(shop.app.start(), without_credentials(arguments.backend), 5.0) as inbox,
            _served(shop.app, arguments.port, output) as receiver,
            _watched(inbox, show),
        ):
            senders = Senders(shop.app, receiver, arguments.rate, seed, show.answered)
            senders.start()
            try:
                _run(shop, inbox, show, arguments.seconds, stop)
            finally:
                senders.stop()
    show.summary()
    return 0


def _run(
    shop: Shop, inbox: Inbox, show: _Show, seconds: float | None, stop: threading.Event
) -> None:
    began = time.monotonic()
    with show.live(inbox):
        while not stop.is_set():
            passed = time.monotonic() - began
            if seconds is not None and passed >= seconds:
                return
            _set_bank(shop, show, passed % OUTAGE_EVERY_S < OUTAGE_EVERY_S - OUTAGE_S)
            show.next(REFRESH_S if seconds is None else min(REFRESH_S, seconds - passed))


@contextlib.contextmanager
def _stopped_by_signals() -> Iterator[threading.Event]:
    """Ctrl-C and SIGTERM are the way to end it; a second one kills."""
    stop = threading.Event()

    def end(number: int, frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_DFL)
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _set_bank(shop: Shop, show: _Show, is_up: bool) -> None:
    if shop.bank_is_up.is_set() != is_up:
        (shop.bank_is_up.set if is_up else shop.bank_is_up.clear)()
        show.put(
            {"event": "bank", "text": "the bank is open again" if is_up else "the bank closes"}
        )


@contextlib.contextmanager
def _served(app: Application, port: int, output: Output) -> Iterator[Any]:
    """The receiver; also over HTTP, with the admin API, where the extra for it is installed."""
    receiver = asgi(app)
    if find_spec("uvicorn") is None or find_spec("starlette") is None:
        note('pollin: `pip install "pollin-actors[server]"` has it served over HTTP, too')
        yield receiver
        return
    given = os.environ.get("POLLIN_ADMIN_TOKEN")
    token = given or secrets.token_urlsafe(24)
    server = serve._server(serve.with_admin(receiver, app, token))
    with serve._listen("127.0.0.1", port) as sock:
        url = f"http://127.0.0.1:{sock.getsockname()[1]}"
        shown = "$POLLIN_ADMIN_TOKEN" if given else token
        if output.as_json:
            admin, dashboard = f"{url}{serve.ADMIN}", f"{url}{serve.DASHBOARD}"
            fields = {"receiver": url, "admin": admin, "dashboard": dashboard}
            output.document({"event": "serving", **fields})
        else:
            output.line(f"receiver  {url}")
            output.line(f"dashboard {url}{serve.DASHBOARD}, with the token {shown}")
            output.line("look at it from another terminal:")
            output.line(f"  export POLLIN_SERVER={url}{serve.ADMIN} POLLIN_TOKEN={shown}")
            output.line("  pollin top; pollin tail -f; pollin dead list demo-orders")
        thread = threading.Thread(target=server.run, kwargs={"sockets": [sock]}, daemon=True)
        thread.start()
        try:
            yield receiver
        finally:
            server.should_exit = server.force_exit = True
            thread.join(10)


@contextlib.contextmanager
def _watched(inbox: Local, show: _Show) -> Iterator[None]:
    """Have what happens to callbacks shown, from now on."""
    after = {id: end_of(inbox, id) for id in ENDPOINTS}
    subscription = inbox.app.callbacks.subscribe(*ENDPOINTS, after=after)

    def follow() -> None:
        # The application may stop first.
        with contextlib.suppress(NotRunning, PollinError):
            for record in subscription:
                show.record(record)

    thread = threading.Thread(target=follow, name="pollin-demo-watch", daemon=True)
    thread.start()
    try:
        yield
    finally:
        subscription.close()
        thread.join(10)


class _Show:
    """What is shown of it all; events come from any thread.

    Args:
        output: where.
    """

    def __init__(self, output: Output) -> None:
        self._output = output
        self._events: queue.SimpleQueue[Json] = queue.SimpleQueue()
        self._last: deque[str] = deque(maxlen=LAST)
        self._counted: Counter[str] = Counter()
        self._live: Any = None
        self._inbox: Inbox | None = None
        self._before: Json | None = None

    # -- what happens ------------------------------------------------------------------------------

    def put(self, event: Json) -> None:
        """Something has happened."""
        self._events.put(event)

    def answered(self, answer: Answered) -> None:
        """The receiver has answered."""
        if answer.status != 200 or answer.outcome == "duplicate":
            outcome = f"{answer.status}  {answer.outcome}"
            self.put({"event": "receiver", "endpoint_id": answer.endpoint_id, "text": outcome})
        self._counted[f"answered {answer.status}"] += 1

    def actor_event(self, event: Event) -> None:
        """Something has happened to an actor."""
        if isinstance(event, Crashed | Restarting):
            text = f"{event.event}  {event.child}"
            self.put({"event": "actor", "text": text})

    def record(self, record: Record) -> None:
        """Something has happened to a callback."""
        self.put({"event": "record", **record._asdict(), "kind": record.kind.value})

    # -- showing it --------------------------------------------------------------------------------

    @contextlib.contextmanager
    def live(self, inbox: Inbox) -> Iterator[None]:
        """On a terminal, with rich, in place; else line by line."""
        self._inbox = inbox
        if self._output.as_json or not sys.stdout.isatty() or find_spec("rich") is None:
            yield
            return
        from rich.live import Live

        with Live(auto_refresh=False) as self._live:
            yield
        self._live = None

    def next(self, wait: float) -> None:
        """Show what has happened; wait for it for at most so many seconds."""
        until = time.monotonic() + wait
        with contextlib.suppress(queue.Empty):
            self._show(self._events.get(timeout=wait) if wait > 0 else self._events.get_nowait())
            while time.monotonic() < until:
                self._show(self._events.get_nowait())
        if self._live is not None and self._inbox is not None:
            now = look(self._inbox)
            self._live.update(self._rendered(now), refresh=True)
            if self._before is None or now["at"] - self._before["at"] > 1_000_000_000:
                self._before = now

    def _rendered(self, now: Json) -> RenderableType:
        from rich.console import Group
        from rich.text import Text

        lines = [Text(one_line(line)) for line in self._last]
        return Group(rendered(now["at"], tables(now, self._before)), Text(), *lines)

    def _show(self, event: Json) -> None:
        self._count(event)
        if self._output.as_json:
            self._output.document(event)
            return
        line = _line(event)
        self._last.append(line)
        if self._live is None:
            self._output.line(one_line(line))

    def _count(self, event: Json) -> None:
        self._counted[str(event.get("kind", event["event"]))] += 1

    def summary(self) -> None:
        """What has happened, in figures."""
        while not self._events.empty():
            self._count(self._events.get())
        if self._output.as_json:
            self._output.document(
                {"event": "summary", "counted": dict(sorted(self._counted.items()))}
            )
            return
        self._output.line()
        self._output.fields(sorted(self._counted.items()))


def _line(event: Json) -> str:
    if event["event"] != "record":
        where = event.get("endpoint_id", "")
        return f"{event['event']:<12} {where:<13} {event['text']}"
    phase = event["to_phase"] or ""
    told = f"  {event['reason']}" if event["reason"] else ""
    attempt = f"  attempt {event['attempt']}" if event["attempt"] else ""
    key = event["callback_id"]
    shown = key if len(key) <= 40 else key[:39] + "…"
    return f"{event['kind']:<12} {event['endpoint_id']:<13} {shown:<40} {phase}{attempt}{told}"
