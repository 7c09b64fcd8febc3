"""Following a history over HTTP: as it happens, without looking in vain, in flat memory, until the
client leaves or the server stops."""

from __future__ import annotations

import asyncio
import json
import signal
import threading
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, EndpointNotFound, Request, Settings
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import CreateEndpoint, HistoryPage, Push
from pollin_actors.records import Record
from pollin_actors.web.admin_api import follow_stream, following
from pollin_actors.web.admin_api.following import Following, Passed
from tests.test_announcements import NEVER_S, Shared
from tests.web.admin_api.api import Api, Exchange, orders

ORDERS = [{"endpoint_id": "orders", "position": 0}]


class Asked(MemoryBackend):
    """Counts how often a history is read."""

    def __init__(self) -> None:
        super().__init__()
        self.pages = 0
        self.read = threading.Condition()

    def execute(self, message: Any) -> Any:
        if isinstance(message, HistoryPage):
            with self.read:
                self.pages += 1
                self.read.notify_all()
        return super().execute(message)


@pytest.fixture
def asked() -> Asked:
    return Asked()


@pytest.fixture
def app(asked: Asked) -> Iterator[Application]:
    with Application(asked, endpoints=[orders()]) as app:
        yield app


def push(app: Application, id: str, endpoint_id: str = "orders") -> None:
    app.callbacks.push(endpoint_id, Callback.new(Request([], b"{}"), id=id)).get()


def fill(app: Application, number: int) -> None:
    for count in range(number):
        push(app, str(count))


class Client(Exchange):
    """Follows, and reads a line at a time.

    Arguments:
        body: of the request.
    """

    def __init__(self, **body: Any) -> None:
        super().__init__("POST", "/follow", body)
        self.lines: asyncio.Queue[bytes] = asyncio.Queue()
        self.ended = False

    async def send(self, message: Any) -> None:
        await super().send(message)
        for line in message.get("body", b"").split(b"\n")[:-1]:
            self.lines.put_nowait(line)
        self.ended = message["type"] == "http.response.body" and not message.get("more_body")

    async def line(self) -> Any:
        """The next line that is not empty."""
        while not (line := await asyncio.wait_for(self.lines.get(), 30)):
            pass
        return json.loads(line)

    async def key(self) -> str:
        """The callback of the next line."""
        line = await self.line()
        return str(line["callback_id"])


@asynccontextmanager
async def client_of(service: Any, leaves: bool = True, **body: Any) -> AsyncIterator[Client]:
    """A stream; it is seen to end."""
    client = Client(**body)
    task = asyncio.ensure_future(service(client.scope, client.receive, client.send))
    try:
        yield client
    finally:
        if leaves:
            client.leave()
        await asyncio.wait_for(task, 30)


def run(work: Callable[[], Awaitable[None]]) -> None:
    async def main() -> None:
        await work()

    asyncio.run(main())


# -- what is told ----------------------------------------------------------------------------------


def test_what_happens_is_told_as_it_happens(api: Api) -> None:
    """What is there, and then what comes; each once, in order, as the list of records has it."""
    push(api.app, "before")

    async def work() -> None:
        async with client_of(api.service, endpoints=ORDERS) as client:
            assert await client.key() == "before"
            assert client.sent[0]["status"] == 200
            assert (b"content-type", b"application/x-ndjson") in client.sent[0]["headers"]
            for id in "ab":
                await asyncio.to_thread(push, api.app, id)
                assert await client.key() == id
            await asyncio.to_thread(api.app.callbacks.pop("orders", key="a").get)
            popped = await client.line()
            assert (popped["callback_id"], popped["kind"]) == ("a", "popped")
            records = await asyncio.to_thread(api.get, "/records")
            assert records["records"][-1] == popped

    run(work)


def test_it_goes_on_from_a_position(api: Api) -> None:
    """Nothing comes twice, and nothing is missing, whenever the stream is ended and begun again."""
    told: list[str] = []

    async def work() -> None:
        position = 0
        for number in range(5):
            push(api.app, f"{number} a")
            at = [{"endpoint_id": "orders", "position": position}]
            async with client_of(api.service, endpoints=at) as client:
                for id in (f"{number} a", f"{number} b"):
                    line = await client.line()
                    assert line["callback_id"] == id
                    told.append(id)
                    position = line["position"]
                    if id.endswith("a"):
                        await asyncio.to_thread(push, api.app, f"{number} b")

    # The event loop is this thread's while it pushes: that is what is tried.
    run(work)
    assert told == [f"{number} {part}" for number in range(5) for part in "ab"]


def test_others_and_those_that_are_yet_to_come(api: Api) -> None:
    """They are followed from their beginning; one that is deleted is let go, and may come again."""

    def make() -> None:
        api.app.endpoints.create(Endpoint.new(id="later")).get()

    async def work() -> None:
        at = [{"endpoint_id": "orders", "position": 0}, {"endpoint_id": "gone", "position": 7}]
        async with client_of(api.service, endpoints=at, others=True) as client:
            assert await client.line() == {"endpoint_id": "gone", "position": 0}
            for _ in range(2):
                await asyncio.to_thread(make)
                await asyncio.to_thread(push, api.app, "a", "later")
                line = await client.line()
                assert (line["endpoint_id"], line["callback_id"]) == ("later", "a")
                await asyncio.to_thread(api.app.endpoints.delete("later").get)
                assert await client.line() == {"endpoint_id": "later", "position": 0}
            await asyncio.to_thread(push, api.app, "b")
            assert await client.key() == "b"

    run(work)


def test_kinds(api: Api) -> None:
    """Of others it is told how far they were passed over, so that nobody reads them again."""

    async def work() -> None:
        async with client_of(api.service, endpoints=ORDERS, kinds=["popped"]) as client:
            await asyncio.to_thread(push, api.app, "a")
            passed = await client.line()
            assert passed == {"endpoint_id": "orders", "position": passed["position"]}
            await asyncio.to_thread(api.app.callbacks.pop("orders").get)
            popped = await client.line()
            assert popped["kind"] == "popped"
            assert popped["position"] > passed["position"]

    run(work)


def test_what_is_long_comes_whole(app: Application) -> None:
    """More than a page, of two endpoints, in turn."""
    app.endpoints.create(Endpoint.new(id="other", ttl=0)).get()
    pushes = [
        app.callbacks.push(id, Callback.new(None, id=str(number)), timeout=None)
        for number in range(2 * following.PAGE + 7)
        for id in ("orders", "other")
    ]
    for each in pushes:
        each.get()

    async def work() -> None:
        async with client_of(Api(app).service, endpoints=ORDERS, others=True) as client:
            lines = [await client.line() for _ in pushes]
        for id in ("orders", "other"):
            keys = [line["callback_id"] for line in lines if line["endpoint_id"] == id]
            assert keys == [str(number) for number in range(len(pushes) // 2)]
        assert len({line["endpoint_id"] for line in lines[: following.PAGE + 1]}) == 2

    run(work)


def test_what_cannot_be_followed(memory: Application) -> None:
    """No endpoint, one that is not there, a kind that is none, too long a time."""
    api = Api(memory)
    missing = {"endpoints": [{"endpoint_id": "none", "position": 0}]}
    answer = api.request("POST", "//follow", json=missing)
    assert api.problem(answer, 404, "endpoint-not-found")["endpoint_id"] == "none"
    for body in ({}, {"others": True, "kinds": ["odd"]}, {"others": True, "seconds": 61}):
        api.problem(api.request("POST", "//follow", json=body), 422, "invalid-value")
    memory.stop()
    api.problem(api.request("POST", "//follow", json={"others": True}), 503, "not-running")


# -- when it is read -------------------------------------------------------------------------------


def test_nothing_is_read_while_nothing_happens(app: Application, asked: Asked) -> None:
    """However often it is asked for more; and thousands of changes are read together."""

    async def work() -> None:
        followed = Following(app, {"orders": 0}, others=True, kinds=None, timeout=30.0)
        assert await followed.next(0.0) == []
        before = asked.pages
        for _ in range(100):
            assert await followed.next(0.0) == []
        assert asked.pages == before
        for number in range(400):  # on this thread: it cannot be read between them
            push(app, str(number))
        assert len(await followed.next(30.0)) == 400
        assert await followed.next(0.0) == []
        assert asked.pages <= before + 2
        followed.close()
        assert not app._changes._watchers
        assert not app._changes._listed_by

    run(work)


def test_a_change_in_the_middle_of_a_look_is_told(app: Application, asked: Asked) -> None:
    """One that comes after the page was read, and before anybody waits."""

    async def work() -> None:
        followed = Following(app, {"orders": 0}, others=False, kinds=None, timeout=30.0)
        ask = followed._ask
        late = iter(["a"])

        async def asking(message: HistoryPage) -> Any:
            page = await ask(message)
            for id in late:
                push(app, id)
            return page

        followed._ask = asking  # type: ignore[method-assign]
        [record] = await followed.next(30.0)
        assert isinstance(record, Record)
        assert record.callback_id == "a"
        followed.close()

    run(work)


def test_a_backend_that_tells_is_not_looked_at() -> None:
    """What another process does is heard of at once, also of an endpoint that it makes."""
    store, handles = MemoryBackend(), []  # type: tuple[MemoryBackend, list[Shared]]
    for _ in range(2):
        Shared(store, handles)
    settings = Settings(poll_interval=NEVER_S)
    with (
        Application(handles[0], endpoints=[orders(secret="s3cret-s3cret")]) as one,
        Application(handles[1], settings=settings) as two,
    ):

        async def work() -> None:
            followed = Following(two, {}, others=True, kinds=None, timeout=30.0)
            assert await followed.next(0.0) == []
            push(one, "a")
            [record] = await followed.next(60.0)
            assert record.endpoint_id == "orders"
            one.endpoints.create(Endpoint.new(id="later")).get()
            handles[1].announce("later", True)
            push(one, "b", "later")
            [record] = await followed.next(60.0)
            assert record.endpoint_id == "later"
            followed.close()

        run(work)


def test_one_that_does_not_tell_is_looked_at(app: Application, asked: Asked) -> None:
    """Every so many seconds, also while others keep ringing: for what is pushed, and for endpoints
    that are made."""

    async def work() -> None:
        followed = Following(app, {"orders": 0}, others=True, kinds=None, timeout=30.0, every=1e-6)
        assert await followed.next(0.0) == []
        # Beside the application, so that nobody tells.
        asked.execute(CreateEndpoint(Endpoint.new(id="quiet")))
        asked.execute(Push("quiet", Callback.new(None, id="q"), None, True))
        heard: set[str] = set()
        number = 0
        while "quiet" not in heard:
            push(app, str(number))
            heard |= {line.endpoint_id for line in await followed.next(30.0)}
            number += 1
        followed.close()

    run(work)


# -- how it ends -----------------------------------------------------------------------------------


def test_a_slow_client_holds_one_page(app: Application, asked: Asked) -> None:
    """Nothing is read on before it has taken what was read, whatever happens meanwhile."""

    async def work() -> None:
        service = Api(app).service
        taking = asyncio.Event()

        class Slow(Client):
            async def send(self, message: Any) -> None:
                if b"callback_id" in message.get("body", b""):
                    taking.set()
                    await asyncio.Event().wait()
                await super().send(message)

        client = Slow(endpoints=ORDERS)
        task = asyncio.ensure_future(service(client.scope, client.receive, client.send))
        await asyncio.to_thread(push, app, "first")
        await asyncio.wait_for(taking.wait(), 30)
        before = asked.pages
        await asyncio.to_thread(fill, app, 2_000)
        assert asked.pages == before
        client.leave()
        await asyncio.wait_for(task, 30)
        assert not app._changes._watchers

    run(work)


def test_a_client_that_takes_nothing_is_let_go(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Although it does not leave."""
    monkeypatch.setattr(follow_stream, "SEND_S", 0.01)
    push(app, "a")

    async def work() -> None:
        async def send(message: Any) -> None:
            if message["type"] == "http.response.body":
                await asyncio.Event().wait()

        client = Client(endpoints=ORDERS)
        await asyncio.wait_for(Api(app).service(client.scope, client.receive, send), 30)
        assert not app._changes._watchers

    run(work)


def test_one_that_has_gone_without_a_word_is_noticed(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An empty line now and then finds out."""
    monkeypatch.setattr(follow_stream, "QUIET_S", 0.0)
    monkeypatch.setattr(follow_stream, "TICK_S", 0.0)

    async def work() -> None:
        lines = 0

        async def send(message: Any) -> None:
            nonlocal lines
            lines += message.get("body") == b"\n"
            if lines == 3:
                raise OSError

        client = Client(endpoints=ORDERS)
        await asyncio.wait_for(Api(app).service(client.scope, client.receive, send), 30)
        assert lines == 3

    run(work)


def test_it_ends_in_time(memory: Application) -> None:
    """In order: who follows knows that nothing was cut off."""
    answer = Api(memory).request("POST", "//follow", json={"others": True, "seconds": 0})
    assert (answer.status_code, answer.content) == (200, b"\n")


@pytest.mark.parametrize("what", ["deleted", "stopped"])
def test_it_ends_with_what_is_followed(app: Application, what: str) -> None:
    """With an endpoint that was named, and with the application; who comes again is told why."""

    async def work() -> None:
        push(app, "a")
        async with client_of(Api(app).service, leaves=False, endpoints=ORDERS) as client:
            await client.line()
            end = app.endpoints.delete("orders").get if what == "deleted" else app.stop
            await asyncio.to_thread(end)
        assert client.ended
        assert not app._changes._watchers

    run(work)


def test_it_ends_with_the_server(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Which says so by what it handles SIGTERM with."""
    monkeypatch.setattr(follow_stream, "TICK_S", 0.01)

    class Server:
        should_exit = False

        def handle(self, *_: Any) -> None:
            self.should_exit = True

    server = Server()
    monkeypatch.setattr(signal, "getsignal", lambda number: server.handle)

    async def work() -> None:
        push(app, "a")
        async with client_of(Api(app).service, leaves=False, endpoints=ORDERS) as client:
            await client.line()
            server.handle()
        assert client.ended

    run(work)


def test_not_too_many_at_once(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who comes on top is told to come again; a place is free again when one leaves."""
    monkeypatch.setattr(follow_stream, "MOST_STREAMS", 1)
    push(app, "a")
    service = Api(app).service

    async def work() -> None:
        for _ in range(2):
            async with client_of(service, endpoints=ORDERS) as first:
                await first.line()
                second = Client(endpoints=ORDERS)
                await service(second.scope, second.receive, second.send)
                assert second.sent[0]["status"] == 503
                assert (b"retry-after", b"1") in second.sent[0]["headers"]

    run(work)


def test_many_endpoints_do_not_hold_the_event_loop(
    app: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are watched some at a time, and let go of on a thread."""
    monkeypatch.setattr(following, "AT_ONCE", 3)
    monkeypatch.setattr(follow_stream, "MANY", 3)
    for number in range(9):
        app.endpoints.create(Endpoint.new(id=f"e{number}")).get()
    turns: list[int] = []
    watch = Following._watch

    def watching(self: Following, id: str) -> None:
        turns.append(turn)
        watch(self, id)

    monkeypatch.setattr(Following, "_watch", watching)
    turn = 0

    async def work() -> None:
        nonlocal turn
        loop = asyncio.get_running_loop()

        def count() -> None:
            nonlocal turn
            turn += 1
            loop.call_soon(count)

        loop.call_soon(count)
        at = [{"endpoint_id": f"e{number}", "position": 0} for number in range(9)]
        async with client_of(Api(app).service, endpoints=at) as client:
            await asyncio.to_thread(push, app, "a", "e8")
            await client.line()
        await loop.shutdown_default_executor()
        assert max(Counter(turns).values()) == 3
        assert not app._changes._watchers

    run(work)


def test_a_request_that_is_cancelled_leaves_nothing(app: Application) -> None:
    """As a server does that does not wait."""

    async def work() -> None:
        push(app, "a")
        service = Api(app).service
        client = Client(endpoints=ORDERS)
        task = asyncio.ensure_future(service(client.scope, client.receive, client.send))
        await client.line()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert not app._changes._watchers

    run(work)


def test_a_name_that_is_deleted_is_an_error_of_its_own(app: Application) -> None:
    """In the process: who follows by name hears of it, who follows all does not."""

    async def work() -> None:
        named = Following(app, {"orders": 0}, others=False, kinds=None, timeout=30.0)
        every = Following(app, {"orders": 0}, others=True, kinds=None, timeout=30.0)
        for followed in (named, every):
            assert await followed.next(0.0) == []
        await asyncio.to_thread(app.endpoints.delete("orders").get)
        with pytest.raises(EndpointNotFound):
            await named.next(30.0)
        assert await every.next(30.0) == [Passed("orders", 0)]
        for followed in (named, every):
            followed.close()
            followed.close()

    run(work)
