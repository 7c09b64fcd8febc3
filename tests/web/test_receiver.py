"""The receiver: what it stores, and what it refuses."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
import structlog
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    Endpoint,
    InvalidValue,
    Request,
    Settings,
)
from pollin_actors.errors import WrongSecret
from pollin_actors.signatures import Delivery
from pollin_actors.web import asgi
from pollin_actors.web.waiting import packed
from tests.web.calls import BEARER, SECRET, Exchange, Pairs, endpoint, exchange, queued


class TestStored:
    def test_a_post_is_queued_and_answered_with_its_id(self, app: Application) -> None:
        """200 says which callback it became, and that one is in the queue."""
        answer = exchange(app, chunks=[b'{"a": 1}'])

        [callback] = queued(app)
        assert answer.status == 200
        assert answer.json == {"id": callback.id, "outcome": "queued"}
        assert callback.request.body == b'{"a": 1}'
        assert callback.phase == "received"

    def test_headers_are_kept_byte_for_byte_in_order_and_repeated(self, app: Application) -> None:
        """Order, repeats, spaces and bytes beyond ASCII come back as they went in."""
        headers: Pairs = [
            (b"x-tag", b"one"),
            (b"host", b"example.org"),
            (b"x-pollin-secret", SECRET.encode()),
            (b"X-Tag", b"  two\t"),
            (b"x-bytes", bytes(range(128, 256))),
            (b"x-tag", b"one"),
            (b"accept-encoding", b"gzip"),
            (b"accept-charset", b"*"),
            (b"content-length", b"2"),
            (b"x-empty", b""),
        ]

        assert exchange(app, headers=headers).status == 200

        [callback] = queued(app)
        expected = [(k.decode("latin-1"), v.decode("latin-1")) for k, v in headers]
        expected[2] = ("x-pollin-secret", "**********")
        assert list(callback.request.headers) == expected

    def test_the_body_is_kept_byte_for_byte_however_it_is_cut(self, app: Application) -> None:
        """Chunks, empty ones too, are put together and nothing else is done to them."""
        body = bytes(range(256)) * 40
        exchange(app, chunks=[b"", body[:1], body[1:5000], b"", body[5000:], b""])

        assert queued(app)[0].request.body == body

    def test_an_empty_body_is_a_body(self, app: Application) -> None:
        assert exchange(app, chunks=[b""]).status == 200
        assert queued(app)[0].request.body == b""

    def test_the_endpoints_own_secret_is_not_stored(self, app: Application) -> None:
        """Each header that carried it keeps its place and loses its value."""
        headers: Pairs = [BEARER, (b"x-pollin-secret", SECRET.encode()), BEARER]

        assert exchange(app, headers=headers).status == 200

        stored = queued(app)[0].request
        names = ["authorization", "x-pollin-secret", "authorization"]
        assert [name for name, _ in stored.headers] == names
        assert {value for _, value in stored.headers} == {"**********"}

    @pytest.mark.parametrize("value", [b"Basic b3Blbi1zZXNhbWU=", b"open-sesame", b"Bearer"])
    def test_a_credential_for_somebody_else_is_kept(self, app: Application, value: bytes) -> None:
        """X-Pollin-Secret is for us alone; beside it, Authorization is a header like any other."""
        headers: Pairs = [(b"authorization", value), (b"x-pollin-secret", SECRET.encode())]

        assert exchange(app, headers=headers).status == 200
        assert queued(app)[0].request.header("authorization") == value.decode()

    def test_two_secrets_that_are_valid_are_both_not_stored(self, app: Application) -> None:
        """While they overlap a sender may show either, or both."""
        app.endpoints.rotate("orders", secret="the-newer-one").get()
        older, newer = SECRET.encode(), b"the-newer-one"
        name = b"x-pollin-secret"
        for headers in (
            [(name, newer), (b"authorization", b"Bearer " + older)],
            [(name, older), (name, newer)],
        ):
            assert exchange(app, headers=headers).status == 200
        for callback in queued(app):
            assert [value for _, value in callback.request.headers] == ["**********"] * 2

    @pytest.mark.parametrize("value", [b"Bearer an-older-secret", b"Bearer open-sesame-"])
    def test_what_is_shown_where_secrets_are_is_not_stored(
        self, app: Application, value: bytes
    ) -> None:
        """It may be one that was valid, or is to be, or is written wrongly."""
        headers: Pairs = [(b"authorization", value), (b"x-pollin-secret", SECRET.encode())]

        assert exchange(app, headers=headers).status == 200
        assert queued(app)[0].request.header("authorization") == "**********"

    def test_every_endpoint_has_its_own_queue(self, app: Application) -> None:
        exchange(app, "/other", chunks=[b"for other"])

        assert queued(app, "orders") == []
        assert [callback.request.body for callback in queued(app, "other")] == [b"for other"]

    def test_endpoint_ids_are_taken_from_the_decoded_path(self, app: Application) -> None:
        """A percent sign, quotes and letters beyond ASCII may be in an id; nothing is decoded
        twice."""
        for endpoint_id in ("50%25-off", "größe", "a'b\"c"):
            app.endpoints.create(endpoint(endpoint_id)).get()

            assert exchange(app, f"/{endpoint_id}").status == 200
            assert len(queued(app, endpoint_id)) == 1


class TestSecrets:
    @pytest.mark.parametrize(
        "header",
        [
            (b"authorization", b"Bearer open-sesame"),
            (b"authorization", b"bearer open-sesame"),
            (b"authorization", b"BEARER   open-sesame "),
            (b"Authorization", b"Bearer open-sesame"),
            (b"x-pollin-secret", b"open-sesame"),
            (b"X-Pollin-Secret", b"open-sesame"),
        ],
    )
    def test_ways_to_show_it(self, app: Application, header: tuple[bytes, bytes]) -> None:
        assert exchange(app, headers=[header]).status == 200

    @pytest.mark.parametrize(
        "headers",
        [
            [],
            [(b"authorization", b"Bearer wrong")],
            [(b"authorization", b"Bearer ")],
            [(b"authorization", b"Bearer")],
            [(b"authorization", b"open-sesame")],
            [(b"authorization", b"Basic open-sesame")],
            [(b"authorization", b"Bearer \xff\xfe")],
            [(b"authorization", b"")],
            [(b"x-pollin-secret", b"")],
            [(b"x-pollin-secret", b"open-sesam")],
            [(b"x-pollin-secret", b"wrong"), BEARER],
            [(b"x-pollin-secret", b"wrong"), (b"x-pollin-secret", b"open-sesame")],
        ],
    )
    def test_none_or_a_wrong_one_is_refused(self, app: Application, headers: Pairs) -> None:
        """401 for all of them, the same body, and nothing is stored."""
        answer = exchange(app, headers=headers)

        assert answer.status == 401
        assert answer.headers[b"www-authenticate"] == b"Bearer"
        assert answer.body == exchange(app, headers=[]).body
        assert queued(app) == []

    def test_it_may_have_letters_beyond_ascii(self, app: Application) -> None:
        """They are compared as UTF-8."""
        app.endpoints.create(Endpoint.new(id="u", secret="schlüssel")).get()
        header = (b"authorization", "Bearer schlüssel".encode())

        assert exchange(app, "/u", [header]).status == 200
        assert "schl" not in str(queued(app, "u")[0].request.headers)

    def test_it_never_reaches_the_log_not_even_with_the_locals_of_a_failure(
        self, app: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A renderer that shows every variable of every frame has nothing to show."""

        def push(endpoint_id: str, callback: object, *, secret: object, timeout: float) -> None:
            raise RuntimeError("broken")

        monkeypatch.setattr(app.callbacks, "push", push)
        lines: list[str] = []

        def keep(logger: object, name: str, event: Any) -> Any:
            lines.append(event)
            raise structlog.DropEvent

        structlog.configure(
            processors=[
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(),
                keep,
            ]
        )

        assert exchange(app).status == 503
        [line] = lines
        assert "broken" in line
        assert "endpoint_id" in line, "the locals of the failing frame are shown"
        assert SECRET not in line

    @pytest.mark.parametrize("how", ["cause", "context", "group"])
    def test_nor_with_those_of_what_a_failure_came_from(
        self, app: Application, monkeypatch: pytest.MonkeyPatch, how: str
    ) -> None:
        """Errors that were handled on the way, and those of a group, have passed by our frames too,
        and are shown with the last."""

        def push(*args: object, **options: object) -> None:
            before: Exception | None = None
            try:
                packed(Delivery([BEARER], b""), None)  # type: ignore[arg-type]
            except AttributeError as failure:
                before = failure
            if how == "group":
                raise ExceptionGroup("broken", [before or ValueError()])
            error = RuntimeError("broken")
            if how == "cause":
                error.__cause__ = before
            else:  # which setting the other would hide
                error.__context__ = before
            raise error

        monkeypatch.setattr(app.callbacks, "push", push)
        logged: list[Any] = []

        def keep(logger: object, name: str, event: Any) -> Any:
            logged.append(event)
            raise structlog.DropEvent

        structlog.configure(processors=[structlog.processors.dict_tracebacks, keep])
        assert exchange(app).status == 503
        assert "broken" in str(logged)
        assert "shown_in" in str(logged), "what it came from is shown as well"
        assert SECRET not in str(logged)

    def test_an_attempt_that_failed_is_not_what_the_next_one_came_from(
        self, app: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """A secret was changed in between, and then something breaks: the second error alone."""
        raised: list[Exception] = [WrongSecret("orders"), RuntimeError("broken")]

        def push(*args: object, **options: object) -> None:
            raise raised.pop(0)

        monkeypatch.setattr(app.callbacks, "push", push)
        with capture_logs() as logs:
            assert exchange(app).status == 503
        [told] = [entry for entry in logs if entry["event"] == "receiver.failed"]
        assert told["exc_info"][1].__context__ is None


class TestRefused:
    @pytest.mark.parametrize(
        "path",
        [
            *("", "/", "//", "orders", "/orders/", "//orders", "/orders/more", "/a/b/c"),
            *("/gone", "/Orders", "/ orders", "/orders?", "/healthz/"),
            *("/\0", "/orders\n", "/\ud800", "/" + "x" * 201),
        ],
    )
    def test_unknown_paths_are_404(self, app: Application, path: str) -> None:
        assert exchange(app, path).status == 404
        assert exchange(app, path).json["error"]

    @pytest.mark.parametrize("path", ["/", "/orders/more"])
    @pytest.mark.parametrize("method", ["POST", "GET", "DELETE"])
    def test_what_is_no_path_of_an_endpoint_is_404_before_the_body_is_read(
        self, app: Application, path: str, method: str
    ) -> None:
        answer = exchange(app, path, method=method)

        assert (answer.status, answer.messages_read) == (404, 0)

    @pytest.mark.parametrize("method", ["GET", "HEAD", "PUT", "DELETE", "OPTIONS", "post", "", "X"])
    def test_other_methods_are_405(self, app: Application, method: str) -> None:
        """It says which method is allowed; whether the endpoint exists it does not say."""
        for path in ("/orders", "/gone"):
            answer = exchange(app, path, method=method)

            assert (answer.status, answer.messages_read) == (405, 0)
            assert answer.headers[b"allow"] == b"POST"
        assert queued(app) == []

    @pytest.mark.parametrize("path", ["/orders", "/a/b", "/healthz"])
    def test_head_has_no_body(self, app: Application, path: str) -> None:
        """The headers are those of the answer that it is the head of."""
        answer = exchange(app, path, method="HEAD")

        assert answer.body == b""
        assert int(answer.headers[b"content-length"]) > 0

    @pytest.mark.parametrize("value", [b"", b"ten", b"-1", b"+5", b"1_0", b"0x10", b"\xb2", b"1 2"])
    def test_a_content_length_that_is_no_number_is_400(
        self, app: Application, value: bytes
    ) -> None:
        answer = exchange(app, headers=[BEARER, (b"content-length", value)])

        assert (answer.status, answer.messages_read) == (400, 0)
        assert queued(app) == []

    @pytest.mark.parametrize(
        "headers", [[None], [(b"one",)], [(1, 2)], [(b"content-length", 5)], [(b"x", None)], 7]
    )
    def test_headers_that_are_none_are_400(self, app: Application, headers: Any) -> None:
        assert exchange(app, headers=headers).status == 400
        assert queued(app) == []


class TestLimit:
    LIMIT = 1000

    def send(self, app: Application, *chunks: bytes, length: bytes | None = None) -> Exchange:
        headers = [BEARER] if length is None else [BEARER, (b"content-length", length)]
        return asyncio.run(
            Exchange(headers=headers, chunks=chunks).through(asgi(app, max_bytes=self.LIMIT))
        )

    def test_as_much_as_allowed_is_taken(self, app: Application) -> None:
        assert self.send(app, b"x" * self.LIMIT, length=b"1000").status == 200
        assert self.send(app, b"x" * 999, b"x").status == 200

    def test_a_byte_more_is_413(self, app: Application) -> None:
        assert self.send(app, b"x" * (self.LIMIT + 1)).status == 413
        assert self.send(app, b"x" * 999, b"xx").status == 413
        assert queued(app) == []

    def test_it_is_enforced_while_reading(self, app: Application) -> None:
        """Of a hundred chunks no more is read than it takes to know that they are too many."""
        answer = self.send(app, *[b"x" * 100] * 100)

        assert (answer.status, answer.messages_read) == (413, 11)

    @pytest.mark.parametrize("length", [b"1001", b"9" * 30, b"9" * 5000])
    def test_a_content_length_beyond_it_is_413_before_anything_is_read(
        self, app: Application, length: bytes
    ) -> None:
        answer = self.send(app, b"x", length=length)

        assert (answer.status, answer.messages_read) == (413, 0)
        assert answer.json["error"]

    @pytest.mark.parametrize("length", [b"0", b"7", b"1000", None])
    def test_a_lying_content_length_does_not_matter(
        self, app: Application, length: bytes | None
    ) -> None:
        """What counts is what comes."""
        assert self.send(app, b"x" * 600, b"x" * 600, length=length).status == 413
        assert self.send(app, b"some", b"thing", length=length).status == 200
        assert [callback.request.body for callback in queued(app)] == [b"something"]

    def test_the_settings_give_the_default(self) -> None:
        """They hold for headers and body together, so a body may be refused after reading too."""
        with Application(settings=Settings(max_bytes=100), endpoints=[endpoint()]) as app:
            assert exchange(app, chunks=[b"x" * 101]).status == 413
            assert exchange(app, chunks=[b"x" * 100]).status == 413
            assert exchange(app, chunks=[b"x" * 60]).status == 200

    @pytest.mark.parametrize(
        "wrong",
        [
            *({"max_bytes": value} for value in (0, True, "1")),
            *({"timeout": value} for value in (0, float("inf"), None, True)),
        ],
    )
    def test_impossible_limits_are_refused(self, app: Application, wrong: dict[str, Any]) -> None:
        [name] = wrong
        with pytest.raises(InvalidValue, match=name):
            asgi(app, **wrong)


class TestGone:
    def test_a_sender_that_leaves_while_sending_leaves_nothing_behind(
        self, app: Application
    ) -> None:
        """Nothing is stored and nothing is answered."""
        for chunks in ([], [b"half of"], [b"half", b" of"]):
            assert exchange(app, chunks=chunks, gone=True).sent == []
        assert queued(app) == []

    def test_a_sender_that_leaves_before_the_answer_does_no_harm(self, app: Application) -> None:
        """A server may say so by an OSError; what was sent is stored."""

        async def send(message: object) -> None:
            raise ConnectionResetError

        request = Exchange()
        asyncio.run(_awaited(asgi(app)(request.scope, request.receive, send)))

        assert len(queued(app)) == 1


async def _awaited(awaitable: Any) -> Any:
    return await awaitable


def test_bodies_are_small_json(app: Application) -> None:
    """Every answer can be read by a machine."""
    for answer in (exchange(app), exchange(app, headers=[]), exchange(app, "/gone")):
        assert isinstance(json.loads(answer.body), dict)
        assert len(answer.body) < 200


def test_request_is_stored_as_a_request(app: Application) -> None:
    """Consumers get a Request, whose headers they can look up."""
    exchange(app, headers=[BEARER, (b"content-type", b"text/plain")])
    request = queued(app)[0].request

    assert isinstance(request, Request)
    assert request.header("Content-Type") == "text/plain"
