"""Dumps over HTTP: out of one inbox and into another, in flat memory, until the client leaves."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import tracemalloc
from pathlib import Path
from typing import Any

import anyio
import anyio.to_thread
import pytest

from pollin_actors import Application, Callback, Request
from pollin_actors.web.admin_api import stream_operations
from pollin_actors.web.admin_api.table import ClientGone
from tests.web.admin_api.api import NDJSON, Api, Exchange, orders

TYPE = b"application/x-ndjson"


def fill(app: Application, number: int, body: bytes) -> None:
    pushes = []
    for count in range(number):
        callback = Callback.new(Request([("n", str(count))], body), id=f"{count:05}")
        pushes.append(app.callbacks.push("orders", callback, timeout=None))
    for push in pushes:
        push.get()


class Pipe:
    """What one ASGI application answers is what another is sent; at most two pieces between."""

    def __init__(self, source: Any, target: Any) -> None:
        self.source, self.target = source, target
        self.pieces: asyncio.Queue[dict[str, Any]] = asyncio.Queue(maxsize=2)
        self.most = 0

    async def send(self, message: Any) -> None:
        if message["type"] == "http.response.body":
            self.most = max(self.most, len(message.get("body", b"")))
            await self.pieces.put({**message, "type": "http.request"})

    async def nothing(self) -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def run(self) -> Exchange:
        out, into = Exchange("GET", "/dump"), Exchange("POST", "/load", content_type=TYPE)
        await asyncio.gather(
            self.source(out.scope, self.nothing, self.send),
            self.target(into.scope, self.pieces.get, into.send),
        )
        return into


def test_ten_thousand_callbacks_move_over_http_in_flat_memory(tmp_path: Path) -> None:
    """Both ends stream at once: what is under way is a small part of what is moved."""
    body = bytes(range(256)) * 8
    source, target = (f"sqlite:///{tmp_path / name}?durability=normal" for name in ("a", "b"))
    with Application(source, endpoints=[orders()]) as old, Application(target) as new:
        fill(old, 10_000, body)
        pipe = Pipe(Api(old).service, Api(new).service)
        gc.collect()
        tracemalloc.start()
        try:
            answer = asyncio.run(pipe.run())
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert json.loads(answer.sent[1]["body"]) == {
            "endpoints": 1,
            "queued": 10_000,
            "duplicates": 0,
        }
        assert list(new.callbacks.dump("orders")) == list(old.callbacks.dump("orders"))
    # 20 MB of bodies, 27 MB of lines.
    assert peak < 9_000_000
    assert pipe.most < 200_000


def test_round_trip_on_each_backend(api: Api) -> None:
    """Byte for byte, in order; credentials in headers too: a dump is for moving, not for looking.
    The endpoints' secrets are not in it."""
    api.push("1", headers=[["Cookie", "kept"]], body_base64="/w==", phase="done")
    api.push("2", parent="1", value={"a": [1.5, None]})
    dumped = api.request("GET", "//dump")
    assert dumped.headers["content-type"] == "application/x-ndjson"
    assert b'"secret"' not in dumped.content
    with Application() as other:
        target = Api(other)
        loaded = target.request("POST", "//load", content=dumped.content, headers=NDJSON)
        assert target.json(loaded) == {"endpoints": 1, "queued": 2, "duplicates": 0}
        assert list(other.callbacks.dump("orders")) == list(api.app.callbacks.dump("orders"))
        again = target.request("POST", "//load", content=dumped.content, headers=NDJSON)
        assert target.json(again) == {"endpoints": 0, "queued": 0, "duplicates": 2}


def test_some_endpoints(memory: Application) -> None:
    """Those that are named; one that is not there is a problem, and no dump begins."""
    api = Api(memory)
    api.post("//endpoints", {"id": "other"}, 201)
    params = {"endpoint_id": ["orders", "other"]}
    lines = api.request("GET", "//dump", params=params).text.splitlines()
    assert [json.loads(line).get("endpoint", {}).get("id") for line in lines[1:3]] == [
        "orders",
        "other",
    ]
    missing = api.request("GET", "//dump", params={"endpoint_id": ["orders", "none"]})
    assert api.problem(missing, 404, "endpoint-not-found")["endpoint_id"] == "none"


@pytest.mark.parametrize("chunk", [1, 7, 1_000])
def test_lines_in_any_pieces(memory: Application, chunk: int) -> None:
    """Where the body is cut says nothing."""
    fill(memory, 3, b"{}")
    dumped = Api(memory).request("GET", "//dump").content
    with Application() as other:
        sent = Exchange("POST", "/load", content_type=TYPE)
        for begin in range(0, len(dumped), chunk):
            sent.arrive(dumped[begin : begin + chunk], more=True)
        sent.arrive(b"")
        service = Api(other).service
        asyncio.run(service(sent.scope, sent.receive, sent.send))
        assert json.loads(sent.sent[1]["body"])["queued"] == 3


def test_a_dump_that_was_cut_off(memory: Application) -> None:
    """It is noticed; what was in it is loaded."""
    fill(memory, 3, b"{}")
    dumped = Api(memory).request("GET", "//dump").content
    with Application() as other:
        api = Api(other)
        cut = dumped[: dumped.rindex(b'{"end"')]
        answer = api.request("POST", "//load", content=cut, headers=NDJSON)
        assert "cut off" in api.problem(answer, 422, "invalid-value")["detail"]
        assert other.callbacks.count("orders").get() == 3


def test_who_leaves_ends_the_dump(memory: Application) -> None:
    """Whether the server says so when it sends, or when it is asked."""
    fill(memory, 2_000, b"x" * 1_000)
    service = Api(memory).service

    async def main(version: str) -> list[Any]:
        exchange = Exchange("GET", "/dump")
        exchange.scope["asgi"]["spec_version"] = version

        async def send(message: Any) -> None:
            await exchange.send(message)
            if len(exchange.sent) == 3:
                exchange.leave()
                if version == "2.4":
                    raise OSError
                await asyncio.Event().wait()  # a client that reads no more

        await service(exchange.scope, exchange.receive, send)
        return exchange.sent

    for version in ("2.4", "2.0"):
        sent = asyncio.run(main(version))
        assert len(sent) == 3
        assert b'"end"' not in b"".join(message.get("body", b"") for message in sent)


def test_who_leaves_ends_the_load(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """What came before is loaded, and its place is free again."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(stream_operations, "_places", places)
    fill(memory, 3, b"{}")
    dumped = Api(memory).request("GET", "//dump").content
    with Application() as other:
        service = Api(other).service
        sent = Exchange("POST", "/load", content_type=TYPE)
        sent.arrive(dumped[: dumped.rindex(b'{"end"')], more=True)
        sent.leave()
        asyncio.run(service(sent.scope, sent.receive, sent.send))
        assert sent.sent == []
        assert other.callbacks.count("orders").get() == 3
    assert places.acquire(blocking=False)


def test_a_load_that_is_cancelled_ends(
    memory: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While it works: it takes no other line, and has its place until it has ended."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(stream_operations, "_places", places)
    fill(memory, 9, b"{}")
    dumped = Api(memory).request("GET", "//dump").content
    with Application() as other:
        push = other.callbacks.push
        begun, go_on = threading.Event(), threading.Event()

        def slow(*arguments: Any, **options: Any) -> Any:
            begun.set()
            assert go_on.wait(60)
            return push(*arguments, **options)

        other.callbacks.push = slow  # type: ignore[method-assign]

        async def main() -> None:
            sent = Exchange("POST", "/load", content_type=TYPE)
            sent.arrive(dumped)
            service = Api(other).service
            task = asyncio.create_task(service(sent.scope, sent.receive, sent.send))
            await asyncio.to_thread(begun.wait, 60)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            assert sent.sent == []
            # It is still at work: nobody else has its place.
            assert not places.acquire(blocking=False)
            go_on.set()
            assert await asyncio.to_thread(places.acquire, timeout=60)

        asyncio.run(main())
        assert other.callbacks.count("orders").get() == 1
    places.release()
    with pytest.raises(ValueError, match="released too many times"):
        places.release()


@pytest.mark.parametrize("ways", ["task", "scope"])
def test_a_load_that_is_cancelled_waits_for_nobody(
    memory: Application, monkeypatch: pytest.MonkeyPatch, ways: str
) -> None:
    """While it waits for the client, by asyncio or by a scope of the host: its thread ends."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(stream_operations, "_places", places)
    service = Api(memory).service

    async def main() -> None:
        sent = Exchange("POST", "/load", content_type=TYPE)
        scope = anyio.CancelScope()

        async def request() -> None:
            with scope:
                await service(sent.scope, sent.receive, sent.send)

        task = asyncio.create_task(request())
        await sent.asked.wait()
        if ways == "task":
            task.cancel()
        else:
            scope.cancel()
        await asyncio.wait([task])
        assert await asyncio.to_thread(places.acquire, timeout=20)
        assert sent.sent == []

    asyncio.run(main())
    places.release()


def test_a_load_that_is_cancelled_before_its_thread_begins(
    memory: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nobody has its place, and it is given back once."""
    places = threading.BoundedSemaphore(1)
    monkeypatch.setattr(stream_operations, "_places", places)
    service = Api(memory).service

    async def main() -> None:
        sent = Exchange("POST", "/load", content_type=TYPE)
        run_sync = anyio.to_thread.run_sync

        async def cancelled(*arguments: Any, **options: Any) -> Any:
            task.cancel()
            return await run_sync(*arguments, **options)

        monkeypatch.setattr(anyio.to_thread, "run_sync", cancelled)
        task = asyncio.create_task(service(sent.scope, sent.receive, sent.send))
        await asyncio.wait([task])
        assert task.cancelled()

    asyncio.run(main())
    assert places.acquire(blocking=False)


def test_a_place_is_given_back_once() -> None:
    """Whoever of thread and request is first: a thread that is too late does nothing."""
    places = threading.BoundedSemaphore(1)
    for first_leaves in (True, False):
        assert places.acquire(blocking=False)
        place = stream_operations._Place(places)
        if first_leaves:
            place.leave()
            with pytest.raises(ClientGone), place:
                pytest.fail("it has begun")
        else:
            with place:
                place.leave()
                assert not places.acquire(blocking=False)
        place.leave()


def test_not_too_many_loads_at_once(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each takes a thread: whoever comes on top is told to come again."""
    monkeypatch.setattr(stream_operations, "_places", threading.BoundedSemaphore(1))
    service = Api(memory).service

    async def main() -> None:
        first = Exchange("POST", "/load", content_type=TYPE)
        task = asyncio.create_task(service(first.scope, first.receive, first.send))
        await first.asked.wait()
        second = Exchange("POST", "/load", content_type=TYPE)
        await service(second.scope, second.receive, second.send)
        assert second.sent[0]["status"] == 503
        assert (b"retry-after", b"1") in second.sent[0]["headers"]
        first.leave()
        await task

    asyncio.run(main())


def test_a_client_that_sends_nothing(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does not hold its thread for ever."""
    monkeypatch.setattr(stream_operations, "CHUNK_TIMEOUT", 0.01)
    sent = Exchange("POST", "/load", content_type=TYPE)
    service = Api(memory).service
    asyncio.run(service(sent.scope, sent.receive, sent.send))
    assert sent.sent[0]["status"] == 408


def test_the_event_loop_goes_on_meanwhile(memory: Application) -> None:
    """While a dump is written others are answered: between two pieces there is a turn."""
    fill(memory, 2_000, b"x" * 1_000)
    service = Api(memory).service

    async def main() -> None:
        dump, answered = Exchange("GET", "/dump"), []

        async def send(message: Any) -> None:
            if message.get("body"):
                other = Exchange("GET", "/ready")
                await service(other.scope, other.receive, other.send)
                answered.append(other.sent[0]["status"])

        await service(dump.scope, dump.receive, send)
        assert len(answered) > 10
        assert set(answered) == {200}

    asyncio.run(main())
