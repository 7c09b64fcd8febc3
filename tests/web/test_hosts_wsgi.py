"""The receiver as WSGI: what servers and frameworks with threads make of a request."""

from __future__ import annotations

import contextlib
import io
import json
import socket
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any
from urllib.parse import urlsplit
from wsgiref.simple_server import WSGIRequestHandler, make_server
from wsgiref.validate import validator

import httpx
import pytest
import waitress.server
import waitress.wasyncore
from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server as make_werkzeug

from pollin_actors import Application, State
from pollin_actors.web import wsgi
from tests.web.calls import SECRET, endpoint, queued

LIMIT = 1_000
RIGHT = {"X-Pollin-Secret": SECRET}


class Sent:
    """The answer to one request."""

    def __init__(self, app: Any, **environ: Any) -> None:
        body = environ.pop("body", b"{}")
        made = {
            "REQUEST_METHOD": "POST",
            "SCRIPT_NAME": "",
            "PATH_INFO": "/orders",
            "QUERY_STRING": "",
            "SERVER_NAME": "inbox",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "CONTENT_TYPE": "application/json",
            "CONTENT_LENGTH": str(len(body)) if isinstance(body, bytes) else "10",
            "HTTP_X_POLLIN_SECRET": SECRET,
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(body) if isinstance(body, bytes) else body,
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        for name, value in environ.items():
            made[name.replace("__", ".") if name.startswith("wsgi__") else name] = value
        made = {name: value for name, value in made.items() if value is not None}
        pieces = app(made, self._start)
        try:
            self.body = b"".join(pieces)
        finally:
            if hasattr(pieces, "close"):
                pieces.close()

    def _start(self, status: str, headers: list[tuple[str, str]], *_: Any) -> Any:
        self.status = int(status[:3])
        self.headers = dict(headers)


class TestTheStandard:
    @pytest.mark.parametrize(
        ("environ", "status"),
        [
            ({}, 200),
            ({"HTTP_X_POLLIN_SECRET": "wrong"}, 401),
            ({"PATH_INFO": "/gone"}, 404),
            ({"PATH_INFO": ""}, 404),
            ({"PATH_INFO": "/gr\xc3\xb6\xc3\x9fe-50%"}, 200),
            ({"PATH_INFO": "/\xff"}, 400),
            ({"REQUEST_METHOD": "GET"}, 405),
            ({"REQUEST_METHOD": "GET", "PATH_INFO": "/healthz"}, 200),
            ({"REQUEST_METHOD": "HEAD", "PATH_INFO": "/readyz"}, 200),
            ({"body": b"x" * LIMIT}, 200),
            ({"body": b"x" * (LIMIT + 1)}, 413),
        ],
    )
    def test_it_keeps_to_the_standard(
        self, app: Application, environ: dict[str, Any], status: int
    ) -> None:
        """The standard library's checker has nothing to find, whatever is answered."""
        app.endpoints.create(endpoint("größe-50%")).get()
        sent = Sent(validator(wsgi(app, max_bytes=LIMIT)), **environ)

        assert sent.status == status
        assert sent.headers["content-type"] == "application/json"
        if environ.get("REQUEST_METHOD") == "HEAD":
            assert sent.body == b""
            assert int(sent.headers["content-length"]) > 0
        else:
            assert int(sent.headers["content-length"]) == len(sent.body)
            json.loads(sent.body)

    def test_headers_have_their_names_back(self, app: Application) -> None:
        """In lower case, with hyphens; the values as they came, and the secret hidden."""
        Sent(wsgi(app), HTTP_X_EVENT_NAME="paid; \xe4", CONTENT_TYPE="a/b")

        [callback] = queued(app)
        assert callback.request.header_values("x-event-name") == ["paid; \xe4"]
        assert callback.request.header("content-type") == "a/b"
        assert callback.request.header("content-length") == "2"
        assert SECRET not in str(callback.request.headers)


class Failing:
    """A ``wsgi.input`` that fails after a few bytes."""

    def __init__(self, error: Exception) -> None:
        self._error = error
        self._begun = False

    def read(self, size: int) -> bytes:
        if self._begun:
            raise self._error
        self._begun = True
        return b"some"


class TestBodies:
    @pytest.mark.parametrize("length", ["abc", "-1", "+2", "1.0", "\xb2", "\u0663", " 2"])
    def test_a_malformed_length_is_400(self, app: Application, length: str) -> None:
        assert Sent(wsgi(app), CONTENT_LENGTH=length).status == 400
        assert queued(app) == []

    @pytest.mark.parametrize("length", ["1001", "9" * 18, "9" * 19, "9" * 5_000])
    def test_a_length_beyond_the_limit_is_413_and_nothing_is_read(
        self, app: Application, length: str
    ) -> None:
        body = io.BytesIO(b"x")
        sent = Sent(wsgi(app, max_bytes=LIMIT), body=body, CONTENT_LENGTH=length)
        assert sent.status == 413
        assert body.tell() == 0

    def test_another_length_beside_it_counts_for_nothing(self, app: Application) -> None:
        """It is CONTENT_LENGTH that a server goes by; in whichever order they are listed."""
        body = io.BytesIO(b"x" * 5_000)
        receiver = wsgi(app, max_bytes=LIMIT)
        sent = Sent(receiver, body=body, CONTENT_LENGTH="5000", HTTP_CONTENT_LENGTH="5")
        assert (sent.status, body.tell()) == (413, 0)
        sent = Sent(receiver, HTTP_CONTENT_LENGTH="5000", HTTP_CONTENT_TYPE="text/plain")
        assert sent.status == 200
        [callback] = queued(app)
        assert callback.request.header_values("content-type") == ["application/json"]

    @pytest.mark.parametrize("length", [None, ""])
    def test_no_length_is_no_body(self, app: Application, length: str | None) -> None:
        """Without one the input must not be read: some servers would wait there for ever."""
        body = io.BytesIO(b"of the next request")
        assert Sent(wsgi(app), body=body, CONTENT_LENGTH=length).status == 200
        assert body.tell() == 0
        assert [callback.request.body for callback in queued(app)] == [b""]

    def test_chunks_that_the_server_puts_together_are_read_to_their_end(
        self, app: Application
    ) -> None:
        """``wsgi.input_terminated`` says so; the limit holds as well."""
        receiver = wsgi(app, max_bytes=LIMIT)
        chunked = {"HTTP_TRANSFER_ENCODING": "chunked", "wsgi__input_terminated": True}
        for body, status in [(b"y" * LIMIT, 200), (b"y" * (LIMIT + 1), 413), (b"", 200)]:
            sent = Sent(receiver, body=io.BytesIO(body), CONTENT_LENGTH=None, **chunked)
            assert sent.status == status
        assert [len(callback.request.body) for callback in queued(app)] == [LIMIT, 0]

    def test_chunks_that_it_does_not_are_411(self, app: Application) -> None:
        """An empty body in place of the real one would be a loss that nobody notices."""
        sent = Sent(wsgi(app), CONTENT_LENGTH=None, HTTP_TRANSFER_ENCODING="chunked")
        assert sent.status == 411
        assert queued(app) == []

    @pytest.mark.parametrize("terminated", [True, False])
    def test_a_body_that_ends_early_is_400(self, app: Application, terminated: bool) -> None:
        body = io.BytesIO(b"half")
        sent = Sent(wsgi(app), body=body, CONTENT_LENGTH="8", wsgi__input_terminated=terminated)
        assert sent.status == 400
        assert queued(app) == []

    @pytest.mark.parametrize(
        "error", [OSError("gone"), ValueError("chunk"), EOFError(), RuntimeError("any other")]
    )
    def test_an_input_that_fails_is_400(self, app: Application, error: Exception) -> None:
        """Each server has errors of its own for a sender that has gone; none of them gets out."""
        assert Sent(wsgi(app), body=Failing(error)).status == 400
        assert queued(app) == []

    def test_small_pieces_are_put_together(self, app: Application) -> None:
        """An input may give less than it was asked for."""

        class Small(io.BytesIO):
            def read(self, size: int | None = -1) -> bytes:
                return super().read(min(3, size or 0))

        sent = Sent(wsgi(app), body=Small(b"0123456789"), CONTENT_LENGTH="10")
        assert sent.status == 200
        assert [callback.request.body for callback in queued(app)] == [b"0123456789"]


# -- real servers ----------------------------------------------------------------------------------


class Quiet(WSGIRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@contextlib.contextmanager
def by_wsgiref(app: Any) -> Iterator[str]:
    server = make_server("127.0.0.1", 0, app, handler_class=Quiet)
    with _running(server.serve_forever, server.shutdown):
        yield f"http://127.0.0.1:{server.server_port}"
    server.server_close()


@contextlib.contextmanager
def by_werkzeug(app: Any) -> Iterator[str]:
    server = make_werkzeug("127.0.0.1", 0, app, threaded=True)
    server.log = lambda *args, **kwargs: None  # type: ignore[method-assign]  # it is noisy
    with _running(server.serve_forever, server.shutdown):
        yield f"http://127.0.0.1:{server.server_port}"
    server.server_close()


@contextlib.contextmanager
def by_waitress(app: Any) -> Iterator[str]:
    sock = socket.create_server(("127.0.0.1", 0))
    sockets: dict[int, Any] = {}
    server = waitress.server.create_server(app, sockets=[sock], threads=8, map=sockets)
    # Its loop ends when there is nothing left to listen to.
    ends = partial(waitress.wasyncore.close_all, sockets)
    with _running(server.run, lambda: server.trigger.pull_trigger(ends)):
        yield f"http://127.0.0.1:{sock.getsockname()[1]}"
    server.task_dispatcher.shutdown()
    sock.close()


@contextlib.contextmanager
def _running(run: Callable[[], object], stop: Callable[[], object]) -> Iterator[None]:
    thread = threading.Thread(target=run)
    thread.start()
    try:
        yield
    finally:
        stop()
        thread.join(60)
        assert not thread.is_alive()


SERVERS = {"wsgiref": by_wsgiref, "werkzeug": by_werkzeug, "waitress": by_waitress}


@pytest.fixture(params=SERVERS)
def server(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


class TestServers:
    def test_a_request_arrives_as_it_was_sent(self, app: Application, server: str) -> None:
        """Path, headers and body, through a socket."""
        app.endpoints.create(endpoint("größe-50%")).get()
        body = bytes(range(256)) * 300
        with SERVERS[server](wsgi(app)) as url, httpx.Client(trust_env=False) as client:
            headers = {**RIGHT, "X-Event-Name": "paid"}
            for path in ("orders", "gr%C3%B6%C3%9Fe-50%25"):
                answer = client.post(f"{url}/{path}", content=body, headers=headers)
                assert answer.status_code == 200
                assert answer.json()["outcome"] == "queued"
            assert client.post(f"{url}/orders", content=body).status_code == 401
            assert client.post(f"{url}/%FF", content=body, headers=RIGHT).status_code in (400, 404)
            head = client.head(f"{url}/healthz")
            assert (head.status_code, head.content) == (200, b"")

        for name in ("orders", "größe-50%"):
            [callback] = queued(app, name)
            assert callback.request.body == body
            assert callback.request.header("x-event-name") == "paid"

    def test_chunks_arrive_or_are_refused(self, app: Application, server: str) -> None:
        """Whole where the server puts them together, else 411: never cut off."""
        with SERVERS[server](wsgi(app)) as url:
            chunks = iter([b"one,", b"two"])
            with contextlib.suppress(httpx.TransportError):  # it may close while we still send
                answer = httpx.post(f"{url}/orders", content=chunks, headers=RIGHT, trust_env=False)
                assert answer.status_code == (411 if server == "wsgiref" else 200)
        stored = [callback.request.body for callback in queued(app)]
        assert stored == ([] if server == "wsgiref" else [b"one,two"])

    def test_a_sender_that_goes_in_the_body_leaves_nothing(
        self, app: Application, server: str
    ) -> None:
        with SERVERS[server](wsgi(app)) as url:
            address = urlsplit(url)
            with socket.create_connection((address.hostname, address.port), 60) as sock:
                head = f"POST /orders HTTP/1.1\r\nHost: x\r\nX-Pollin-Secret: {SECRET}\r\n"
                sock.sendall(f"{head}Content-Length: 100\r\n\r\nhalf".encode())
                sock.shutdown(socket.SHUT_WR)
                while sock.recv(1000):
                    pass
            assert queued(app) == []

    def test_several_threads_at_once(self, app: Application, server: str) -> None:
        """All are answered, each with an id of its own, and all are there."""
        with (
            SERVERS[server](wsgi(app)) as url,
            httpx.Client(trust_env=False, timeout=60) as client,
            ThreadPoolExecutor(8) as pool,
        ):

            def send(number: int) -> str:
                answer = client.post(f"{url}/orders", content=b"%d" % number, headers=RIGHT)
                assert answer.status_code == 200
                key: str = answer.json()["id"]
                return key

            ids = list(pool.map(send, range(100)))
        stored = {callback.id: callback.request.body for callback in queued(app)}
        assert stored == {key: b"%d" % number for number, key in enumerate(ids)}


class TestFlask:
    def test_mounted_beside_the_views(self) -> None:
        """The host starts and stops the inbox; its own views are left alone; below the mount
        there is nothing but the receiver."""
        inbox = Application(endpoints=[endpoint()])
        flask = Flask("host")
        flask.add_url_rule("/", view_func=lambda: "the host's")
        flask.wsgi_app = DispatcherMiddleware(flask.wsgi_app, {"/hooks": wsgi(inbox)})  # type: ignore[method-assign]
        client = flask.test_client()

        assert client.post("/hooks/orders", data=b"x", headers=RIGHT).status_code == 503
        with inbox:
            assert client.get("/").text == "the host's"
            assert client.post("/hooks/orders", data=b"x", headers=RIGHT).status_code == 200
            assert client.post("/hooks/orders", data=b"x").status_code == 401
            assert client.post("/hooks/gone", data=b"x", headers=RIGHT).status_code == 404
            assert client.post("/hooks", data=b"x", headers=RIGHT).status_code == 404
            assert client.post("/orders", data=b"x", headers=RIGHT).status_code == 404
            assert client.get("/hooks/healthz").get_json() == {"status": "ok"}
            assert [callback.request.body for callback in queued(inbox)] == [b"x"]
        assert inbox.state is State.STOPPED
