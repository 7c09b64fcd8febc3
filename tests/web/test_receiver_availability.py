"""The receiver when the inbox fails, is slow or is busy: senders are told, nobody else waits."""

from __future__ import annotations

import asyncio
import logging
import threading
from traceback import walk_tb
from typing import Any

import pykka
import pytest
import structlog
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    ForkedProcess,
    NotRunning,
    PushResult,
)
from pollin_actors.application import State
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Push
from pollin_actors.otp import (
    ActorCrashed,
    ActorDead,
    DeadlineExceeded,
    MailboxFull,
    OtpError,
    PoolExhausted,
    ReplyFuture,
)
from pollin_actors.web import asgi
from tests.web.calls import Exchange, endpoint, exchange, post, queued


class TestUnavailable:
    @pytest.mark.parametrize(
        "error",
        [
            BackendUnavailable("sqlite", "disk full"),
            NotRunning("stopped"),
            ForkedProcess(),
            DeadlineExceeded("too late"),
            MailboxFull("full"),
            ActorDead("dead"),
            ActorCrashed("crashed"),
            PoolExhausted("exhausted"),
            OtpError("other"),
        ],
        ids=lambda error: type(error).__name__,
    )
    @pytest.mark.parametrize("at_once", [True, False], ids=["raised", "answered"])
    def test_is_503_and_says_when_to_try_again(
        self, app: Application, monkeypatch: pytest.MonkeyPatch, error: Exception, at_once: bool
    ) -> None:
        """Whether the call raises or its answer does. The log says what it was, and what to do."""

        def push(*args: object, **kwargs: object) -> ReplyFuture[PushResult]:
            if at_once:
                raise error
            reply: ReplyFuture[PushResult] = ReplyFuture()
            reply.set_exception((type(error), error, None))
            return reply

        monkeypatch.setattr(app.callbacks, "push", push)
        with capture_logs() as logs:
            answer = exchange(app)

        assert answer.status == 503
        assert answer.headers[b"retry-after"] == b"1"
        assert str(error) not in answer.json["error"]
        [told] = [entry for entry in logs if entry["log_level"] != "debug"]
        assert (told["event"], told["endpoint"]) == ("receiver.unavailable", "orders")
        assert (told["error"], told["reason"]) == (type(error).__name__, str(error))

    def test_a_full_endpoint_is_503_and_says_so(self) -> None:
        """The sender is told to come again, and not what the capacity is."""
        with Application(endpoints=[endpoint().replace(capacity=1)]) as app:
            assert exchange(app).status == 200
            answer = exchange(app)
            assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
            assert answer.json == {"error": "the endpoint is full: try again later"}
            assert len(queued(app)) == 1

    def test_the_unexpected_is_503_too_and_logged(
        self, app: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def push(*args: object, **kwargs: object) -> None:
            raise ZeroDivisionError

        monkeypatch.setattr(app.callbacks, "push", push)
        with capture_logs() as logs:
            answer = exchange(app)

        assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")
        [entry] = [entry for entry in logs if entry["log_level"] != "debug"]
        assert (entry["event"], entry["endpoint"]) == ("receiver.failed", "orders")
        assert entry["log_level"] == "error"
        assert entry["exc_info"][0] is ZeroDivisionError

    def test_a_log_that_fails_changes_nothing(
        self, app: Application, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*args: object, **kwargs: object) -> Any:
            raise ZeroDivisionError

        monkeypatch.setattr(app.callbacks, "push", fail)
        structlog.configure(processors=[fail])

        assert exchange(app).status == 503

    def test_a_crash_of_the_actor_is_503_and_the_next_request_is_taken(self) -> None:
        """A backend that breaks its contract crashes the endpoint's actor, not the receiver."""

        class Broken(MemoryBackend):
            broken = True

            def execute(self, message: Any) -> Any:
                if isinstance(message, Push) and self.broken:
                    self.broken = False
                    raise ZeroDivisionError
                return super().execute(message)

        logger = logging.getLogger("pykka")
        before, logger.disabled = logger.disabled, True
        try:
            with Application(Broken(), endpoints=[endpoint()]) as app:
                assert exchange(app).status == 503
                assert exchange(app).status == 200
        finally:
            logger.disabled = before

    def test_an_application_that_is_not_running_is_503(self) -> None:
        app = Application(endpoints=[endpoint()])
        assert exchange(app).status == 503
        with app:
            assert exchange(app).status == 200
        assert exchange(app).status == 503

    def test_a_backend_that_does_not_answer_in_time_is_503(self) -> None:
        """The deadline is the receiver's own."""

        class Silent(MemoryBackend):
            def execute(self, message: Any) -> Any:
                return ReplyFuture() if isinstance(message, Push) else super().execute(message)

        with Application(Silent(), endpoints=[endpoint()]) as app:
            answer = asyncio.run(Exchange().through(asgi(app, timeout=0.01)))

            assert (answer.status, answer.headers[b"retry-after"]) == (503, b"1")


def test_pykkas_own_errors_are_503(app: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody's actor on Pykka's own threads may answer with these."""

    def push(*args: object, **kwargs: object) -> None:
        raise pykka.Timeout

    monkeypatch.setattr(app.callbacks, "push", push)
    assert exchange(app).status == 503


class TestHealth:
    def test_it_is_200_while_the_application_runs(self, app: Application) -> None:
        answer = exchange(app, "/healthz", [], method="GET")

        assert (answer.status, answer.json) == (200, {"status": "ok"})
        assert exchange(app, "/healthz", [], method="HEAD").status == 200

    @pytest.mark.parametrize("state", [state for state in State if state is not State.RUNNING])
    def test_else_it_is_503_and_names_the_state(
        self, monkeypatch: pytest.MonkeyPatch, state: State
    ) -> None:
        app = Application()
        monkeypatch.setattr(app, "_state", state)
        answer = exchange(app, "/healthz", [], method="GET")

        assert (answer.status, answer.json) == (503, {"status": str(state)})
        assert answer.headers[b"retry-after"] == b"1"
        assert exchange(app, "/healthz", [], method="HEAD").status == 503

    def test_other_methods_are_405(self, app: Application) -> None:
        answer = exchange(app, "/healthz", method="POST")

        assert (answer.status, answer.headers[b"allow"]) == (405, b"GET, HEAD")


class TestHook:
    def test_it_is_told_of_what_was_taken_and_of_nothing_else(self, app: Application) -> None:
        told: list[tuple[str, PushResult]] = []
        receiver = asgi(app, on_received=lambda *args: told.append(args))

        async def requests() -> None:
            await Exchange(headers=[]).through(receiver)
            await Exchange("/gone").through(receiver)
            await post(receiver, b"taken")

        asyncio.run(requests())

        [(endpoint_id, result)] = told
        assert (endpoint_id, result.outcome) == ("orders", "queued")
        assert [result.callback] == queued(app)

    def test_an_exception_in_it_is_logged_and_changes_nothing(self, app: Application) -> None:
        def fail(endpoint_id: str, result: PushResult) -> None:
            raise NotRunning("on strike")

        with capture_logs() as logs:
            answer = asyncio.run(post(asgi(app, on_received=fail), b"taken"))

        assert (answer.status, len(queued(app))) == (200, 1)
        [entry] = [entry for entry in logs if entry["log_level"] != "debug"]
        assert (entry["event"], entry["endpoint"]) == ("receiver.hook_failed", "orders")
        assert entry["exc_info"][0] is NotRunning

    def test_only_frames_of_the_host_are_shown_with_it(self, app: Application) -> None:
        """Ours hold the request: those of the receiver, and of what binds the context of lines."""

        def fail(endpoint_id: str, result: PushResult) -> None:
            raise NotRunning("on strike")

        with capture_logs() as logs:
            asyncio.run(post(asgi(app, on_received=fail), b"taken"))

        [entry] = [entry for entry in logs if entry["event"] == "receiver.hook_failed"]
        frames = [frame for frame, _ in walk_tb(entry["exc_info"][2])]
        assert [frame.f_code.co_filename for frame in frames] == [__file__]


class TestLoop:
    def test_a_busy_endpoint_keeps_nobody_else_waiting(self) -> None:
        """While another thread holds an endpoint's actor in a slow backend, a request to that
        endpoint waits, and others are answered by the same loop."""
        entered, release = threading.Event(), threading.Event()

        class Slow(MemoryBackend):
            def execute(self, message: Any) -> Any:
                if isinstance(message, Push) and message.callback.request == "slow":
                    entered.set()
                    assert release.wait(60)
                return super().execute(message)

        with Application(Slow(), endpoints=[endpoint("orders"), endpoint("other")]) as app:
            for endpoint_id in ("orders", "other"):
                app.callbacks.count(endpoint_id).get()  # starts its actor
            holder = threading.Thread(
                target=lambda: app.callbacks.push("orders", Callback.new("slow"), timeout=60).get()
            )
            holder.start()
            assert entered.wait(60)

            async def requests() -> None:
                receiver = asgi(app, timeout=60)
                waiting = asyncio.create_task(post(receiver, b"waits"))
                assert (await post(receiver, b"passes", path="/other")).status == 200
                health = Exchange("/healthz", [], method="GET")
                assert (await health.through(receiver)).status == 200
                assert not waiting.done()
                release.set()
                assert (await waiting).status == 200

            try:
                asyncio.run(requests())
            finally:
                release.set()
                holder.join(60)

            assert [callback.request.body for callback in queued(app, "other")] == [b"passes"]
            assert queued(app)[1].request.body == b"waits"

    def test_a_backend_that_answers_later_keeps_nobody_waiting(self) -> None:
        """The answer to the sender comes when the backend has stored it, and not before."""
        replies: list[tuple[ReplyFuture[Any], Push]] = []

        class Later(MemoryBackend):
            def execute(self, message: Any) -> Any:
                if isinstance(message, Push) and message.endpoint_id == "orders":
                    replies.append((ReplyFuture(), message))
                    asked.set()
                    return replies[-1][0]
                return super().execute(message)

        asked = threading.Event()
        backend = Later()
        with Application(backend, endpoints=[endpoint("orders"), endpoint("other")]) as app:

            async def requests() -> None:
                receiver = asgi(app, timeout=60)
                waiting = asyncio.create_task(post(receiver, b"later"))
                await asyncio.to_thread(asked.wait, 60)
                assert (await post(receiver, b"now", path="/other")).status == 200
                assert not waiting.done()
                [(reply, message)] = replies
                reply.set(MemoryBackend.execute(backend, message))
                assert (await waiting).status == 200

            asyncio.run(requests())

    def test_a_cancelled_request_is_cancelled(self, app: Application) -> None:
        """As when a server gives up on a request: cancellation is not swallowed."""

        async def requests() -> None:
            reading = asyncio.Event()

            async def receive() -> Any:
                reading.set()
                await asyncio.Event().wait()

            request = Exchange()
            task = asyncio.ensure_future(asgi(app)(request.scope, receive, request.send))
            await reading.wait()
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task

        asyncio.run(requests())
        assert queued(app) == []
