"""Live pages: streams of what has changed, which hold nothing when nobody looks."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple

import pytest

from pollin_actors import Application, Callback, otp
from pollin_actors.otp.event_hooks import EventHooks
from pollin_actors.web.dashboard import live
from tests.web.dashboard.visitor import READER, Visitor, orders, push


class Event(NamedTuple):
    name: str
    data: Any


class Listener:
    """One stream, as it is received."""

    def __init__(self) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self.events: asyncio.Queue[Event] = asyncio.Queue()
        self.leaving: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.parts: dict[str, str] = {}
        self._asked = False

    async def receive(self) -> dict[str, Any]:
        if not self._asked:
            self._asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return await self.leaving.get()

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            self.headers = {k.decode(): v.decode() for k, v in message["headers"]}
            return
        for block in message["body"].decode().split("\n\n"):
            if block.startswith("event: "):
                name, _, data = block.removeprefix("event: ").partition("\ndata: ")
                self.events.put_nowait(Event(name, json.loads(data)))

    async def until(self, part: str, text: str) -> str:
        """Wait for a part of the page that holds a text."""
        while text not in self.parts.get(part, ""):
            event = await asyncio.wait_for(self.events.get(), 30)
            assert event.name == "parts", event
            self.parts |= event.data
        return self.parts[part]


@asynccontextmanager
async def listening(
    visitor: Visitor, path: str, query: str = "", listener: Listener | None = None
) -> AsyncIterator[Listener]:
    """A stream of a page; the visitor leaves in the end, and it is seen to end then."""
    listener = Listener() if listener is None else listener
    scope = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "GET",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": f"stream=1&{query}".encode(),
        "headers": [(b"cookie", visitor.cookie().encode()), (b"host", b"service.example")],
    }
    task = asyncio.ensure_future(visitor.service(scope, listener.receive, listener.send))
    try:
        yield listener
    finally:
        listener.leaving.put_nowait({"type": "http.disconnect"})
        await asyncio.wait_for(task, 30)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "GAP_S", 0.0)


def test_what_arrives_is_told(inbox: Application) -> None:
    """A row at the top, and the counts; first of all what is there, whatever was missed."""
    push(inbox, id="first")
    with Visitor(inbox) as visitor:
        visitor.login(READER)

        async def look() -> None:
            async with listening(visitor, "/callbacks", "endpoint=orders") as stream:
                await stream.until("live_rows", ">first<")
                assert stream.status == 200
                assert stream.headers["content-type"].startswith("text/event-stream")
                assert stream.headers["cache-control"] == "no-store"
                await asyncio.to_thread(push, inbox, id="second")
                rows = await stream.until("live_rows", ">second<")
                assert rows.index(">second<") < rows.index(">first<")
                await stream.until("live_count", "<strong>2</strong>")

        visitor.client.run(look())


def test_only_what_changed_is_sent(visitor: Visitor, memory: Application) -> None:
    """Parts that are as before are not sent again."""

    async def look() -> None:
        async with listening(visitor, "/callbacks", "endpoint=orders") as stream:
            await stream.until("live_rows", "Nothing is queued")
            await asyncio.to_thread(push, memory, id="one")
            await stream.until("live_rows", ">one<")
            await asyncio.to_thread(
                memory.callbacks.update_phase("orders", key="one", phase="done").get
            )
            event = await asyncio.wait_for(stream.events.get(), 30)
            assert list(event.data) == ["live_rows"]

    visitor.client.run(look())


class Fragile(otp.Actor):
    def on_receive(self, message: object) -> object:
        if message == "crash":
            raise RuntimeError("a crash")
        return message


def test_a_restart_is_told() -> None:
    """The tree says who crashed and was restarted, as it happens."""
    spec = otp.ChildSpec("fragile", Fragile, name="fragile")
    with Application(children=[spec]) as app, Visitor(app) as visitor:
        visitor.login()

        async def look() -> None:
            async with listening(visitor, "/tree") as stream:
                await stream.until("live_crashes", "No crashes")
                app.tell("fragile", "crash")
                await stream.until("live_crashes", "RuntimeError")
                await stream.until("live_tree", "a crash")

        visitor.client.run(look())


def test_a_stream_is_let_go_of(visitor: Visitor, memory: Application) -> None:
    """Who leaves leaves nothing behind: no stream, no watcher, no thread."""
    streams, changes = visitor.service.state.door.streams, memory.callbacks._changes
    threads = threading.active_count()

    async def look() -> None:
        async with listening(visitor, "/") as stream:
            await stream.until("live_totals", "Queued")
            assert streams.open == 1

    visitor.client.run(look())
    before = threading.active_count()
    for _ in range(5):
        visitor.client.run(look())
    assert streams.open == 0
    assert changes._watchers == {}
    assert visitor.service.state.shared.crashes._watchers == ()
    assert threading.active_count() <= max(before, threads + 2)


def test_streams_are_bounded(
    visitor: Visitor, memory: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One too many is refused, until another has ended."""
    monkeypatch.setattr(live, "MOST_STREAMS", 1)

    async def look() -> None:
        async with listening(visitor, "/") as stream:
            await stream.until("live_totals", "Queued")
            async with listening(visitor, "/") as other:
                pass
            assert other.status == 503
        async with listening(visitor, "/") as other:
            await other.until("live_totals", "Queued")

    visitor.client.run(look())


def test_a_stream_ends_with_its_time(visitor: Visitor, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then the browser comes again, and it is looked at who it is."""
    monkeypatch.setattr(live, "LIFE_S", 0.0)

    async def look() -> None:
        async with listening(visitor, "/") as stream:
            pass
        assert stream.status == 200

    visitor.client.run(look())


def test_a_stream_ends_with_the_session(visitor: Visitor, memory: Application) -> None:
    """Who has logged out sees nothing that comes after that."""
    sessions = visitor.service.state.door.sessions
    session = sessions.read(visitor.client.cookies[visitor.cookie_name], 0.0)

    async def look() -> None:
        async with listening(visitor, "/callbacks", "endpoint=orders") as stream:
            await stream.until("live_rows", "Nothing is queued")
            sessions.end(session, 0.0)
            await asyncio.to_thread(push, memory, id="later")
            while (event := await asyncio.wait_for(stream.events.get(), 30)).name != "end":
                assert "later" not in str(event.data)

    visitor.client.run(look())


def test_many_changes_ring_once(
    visitor: Visitor, memory: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who pushes does not pay for those who look; and the last change is seen all the same."""
    rings = 0

    async def look() -> None:
        loop = asyncio.get_running_loop()
        real = loop.call_soon_threadsafe

        def counted(callback: Any, *more: Any, **options: Any) -> Any:
            nonlocal rings
            rings += getattr(callback, "__self__", None).__class__ is asyncio.Event
            return real(callback, *more, **options)

        async with listening(visitor, "/callbacks", "endpoint=orders") as stream:
            await stream.until("live_rows", "Nothing is queued")
            with monkeypatch.context() as patch:
                patch.setattr(loop, "call_soon_threadsafe", counted)
                # On the loop itself: no look comes between them.
                for number in range(500):
                    memory.callbacks.push("orders", Callback.new(None, id=f"c{number}"))
            await stream.until("live_count", "<strong>500</strong>")

    visitor.client.run(look())
    assert rings <= 2


def test_a_client_that_is_gone_is_noticed_by_the_sending(visitor: Visitor) -> None:
    """Some servers say by an OSError that nobody is there any more: the stream ends quietly."""

    async def look() -> None:
        listener = Listener()
        real = listener.send

        async def send(message: Any) -> None:
            await real(message)
            if b"event: parts" in message.get("body", b""):
                raise OSError("gone")

        listener.send = send  # type: ignore[method-assign]
        async with listening(visitor, "/", listener=listener) as stream:
            await stream.until("live_totals", "Queued")

    visitor.client.run(look())
    assert visitor.service.state.door.streams.open == 0


def test_nobody_listens_without_logging_in(memory: Application) -> None:
    """A stream is as private as its page."""
    with Visitor(memory) as visitor:
        visitor.get("/login")

        async def look() -> None:
            async with listening(visitor, "/") as stream:
                pass
            assert stream.status == 401

        visitor.client.run(look())


def test_an_inbox_that_is_away_is_told_and_waited_for() -> None:
    """The stream says so, goes on, and tells what is there when it is back."""
    app = Application(endpoints=[orders()])
    with app, Visitor(app) as visitor:
        visitor.login()

        async def look() -> None:
            async with listening(visitor, "/callbacks", "endpoint=orders") as stream:
                await stream.until("live_rows", "Nothing is queued")
                await asyncio.to_thread(app.stop)
                event = await asyncio.wait_for(stream.events.get(), 30)
                assert event.name == "problem"
                assert "does not run" in event.data["text"]
                await asyncio.to_thread(app.start)
                await asyncio.to_thread(push, app, id="one")
                while event.name == "problem":
                    event = await asyncio.wait_for(stream.events.get(), 30)
                stream.events.put_nowait(event)
                await stream.until("live_rows", ">one<")

        visitor.client.run(look())


def test_a_job_is_followed_to_its_end(visitor: Visitor, memory: Application) -> None:
    """Its progress, and then no more."""
    for number in range(500):
        push(memory, id=f"c{number}")
    answer = visitor.post("/callbacks/act", endpoint="orders", action="delete")
    path = answer.headers["location"].removeprefix("/dash")
    jobs = visitor.service.state.shared.jobs

    async def look() -> None:
        jobs.confirm(jobs.find(path.rpartition("/")[2]))
        async with listening(visitor, path) as stream:
            await stream.until("live_job", "</span>done</span>")
            event = await asyncio.wait_for(stream.events.get(), 30)
            assert event.name == "end"

    visitor.client.run(look())


def test_hooks_are_called_one_after_another() -> None:
    """What one raises keeps no other from the event; one can be taken away, and added later."""
    told: list[str] = []
    event = otp.Started(supervisor="s", child="c")

    def fails(event: otp.Event) -> None:
        told.append("first")
        raise ValueError("a hook")

    hooks = EventHooks(fails)
    remove = hooks.add(lambda event: told.append("second"))
    hooks(event)
    remove()
    remove()
    hooks(event)
    assert told == ["first", "second", "first"]
    assert not EventHooks()


@pytest.fixture
def running() -> Iterator[tuple[Application, threading.Event]]:
    spec = otp.ChildSpec("fragile", Fragile, name="fragile")
    with Application(children=[spec]) as app:
        yield app, threading.Event()


def test_a_hook_may_come_while_the_application_runs(
    running: tuple[Application, threading.Event],
) -> None:
    """It is told what happens from then on."""
    app, crashed = running

    def told(event: otp.Event) -> None:
        if isinstance(event, otp.Crashed):
            crashed.set()

    app.add_event_hook(told)
    app.tell("fragile", "crash")
    assert crashed.wait(30)
