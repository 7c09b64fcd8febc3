"""What a scrape waits for, and what it does not: neither a slow backend nor many endpoints."""

from __future__ import annotations

import asyncio
import concurrent.futures
import os
import subprocess
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application, BackendUnavailable, Callback, Endpoint
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import FetchSlice, IndexEndpoints, Stats
from pollin_actors.otp import Actor, ReplyFuture
from pollin_actors.telemetry.looking import FEW, GIVEN_UP_S, INDEX_SHARE, REST_S, Looks
from pollin_actors.telemetry.names import Names
from pollin_actors.testing import FaultyBackend, Tester
from tests.telemetry.scraping import measured, scrape


class Recorder(MemoryBackend):
    """Remembers what it was asked, and keeps some of it waiting until it is told."""

    def __init__(self) -> None:
        super().__init__()
        self.asked: list[Any] = []
        self.keep: tuple[type, ...] = ()
        self.kept: list[tuple[ReplyFuture[Any], Any]] = []

    def execute(self, message: Any) -> Any:
        self.asked.append(message)
        if isinstance(message, self.keep):
            reply: ReplyFuture[Any] = ReplyFuture()
            self.kept.append((reply, message))
            return reply
        return super().execute(message)

    def answer(self) -> None:
        kept, self.kept = self.kept, []
        for reply, message in kept:
            reply.set(super().execute(message))


def endpoints(count: int) -> list[Endpoint]:
    return [Endpoint.new(id=f"e{number}", ttl=0) for number in range(count)]


class TestTime:
    def test_a_scrape_does_not_wait_for_ever_and_gives_what_is_known(self) -> None:
        """The answers that come too late are those of the next scrape; nobody asks twice."""
        backend = Recorder()
        with Application(backend, endpoints=endpoints(1)) as app:
            metrics = measured(app, timeout=0.01)
            app.callbacks.push("e0", Callback.new(b"")).get()
            assert scrape(metrics).value("pollin_up") == 1
            app.callbacks.push("e0", Callback.new(b"")).get()
            backend.keep = (Stats,)
            late = scrape(metrics)
            assert late.value("pollin_up") == 0
            assert late.value("pollin_scrape_unanswered") == 1
            # As it was.
            queued = {"endpoint": "e0", "phase": "received"}
            assert late.value("pollin_queued_callbacks", **queued) == 1
            asked = len(backend.asked)
            scrape(metrics)
            assert not any(isinstance(it, Stats) for it in backend.asked[asked:])
            backend.answer()
            backend.keep = ()
            seen = scrape(metrics)
            assert seen.value("pollin_up") == 1
            assert seen.value("pollin_queued_callbacks", **queued) == 2

    def test_what_is_never_answered_is_asked_again_in_the_end(self) -> None:
        backend = Recorder()
        app = Application(endpoints=endpoints(1))
        with Tester(app, backend=backend) as tester:
            looks = Looks(app, Names(10))
            assert looks.look(0.0).complete
            for kept in (Stats, IndexEndpoints):
                backend.keep = (kept,)
                tester.advance(1.0)
                looks.look(0.0)  # asks
                assert not looks.look(0.0).complete
                backend.keep = ()
                tester.advance(GIVEN_UP_S / 2)
                assert not looks.look(0.0).complete
                tester.advance(GIVEN_UP_S / 2)
                looks.look(0.0)
                assert looks.look(0.0).complete

    def test_a_list_that_is_not_there_yet(self) -> None:
        """Nothing is known then but what was counted."""
        backend = Recorder()
        with Application(backend, endpoints=endpoints(1)) as app:
            metrics = measured(app, timeout=0.0)
            app.callbacks.push("e0", Callback.new(b"")).get()
            backend.keep = (IndexEndpoints,)
            seen = scrape(metrics)
            assert seen.value("pollin_up") == 0
            assert "pollin_endpoints" not in seen.samples
            assert seen.value("pollin_pushes_total", endpoint="e0", outcome="queued") == 1
            backend.answer()
            backend.keep = ()
            assert scrape(metrics).value("pollin_up") == 1

    def test_a_list_that_takes_long_is_not_read_all_the_time(self) -> None:
        backend = Recorder()
        app = Application(endpoints=endpoints(1))
        with Tester(app, backend=backend) as tester:
            looks = Looks(app, Names(10))
            backend.keep = (IndexEndpoints,)
            looks.look(0.0)
            tester.advance(2.0)
            backend.answer()
            backend.keep = ()
            assert looks.look(0.0).complete
            backend.asked.clear()
            tester.advance(2.0 * INDEX_SHARE - 0.5)
            assert looks.look(0.0).complete
            assert not any(isinstance(it, IndexEndpoints) for it in backend.asked)
            tester.advance(1.0)
            looks.look(0.0)
            assert any(isinstance(it, IndexEndpoints) for it in backend.asked)

    def test_on_an_event_loop_nothing_is_waited_for(self, tmp_path: Path) -> None:
        """With SQLite, whose answers come from another thread: they are there at the next."""
        backend = Recorder()
        with Application(backend, endpoints=endpoints(1)) as app:
            metrics = measured(app, timeout=60.0)
            backend.keep = (Stats,)

            async def scrapes() -> list[float | None]:
                first = scrape(metrics).value("pollin_up")
                backend.answer()
                backend.keep = ()
                return [first, scrape(metrics).value("pollin_up")]

            assert asyncio.run(scrapes()) == [0, 1]

    def test_on_an_event_loop_each_scrape_gives_what_the_one_before_has_asked(self) -> None:
        """Where answers always come a little later: it is up, and a scrape behind."""
        backend = Recorder()
        with Application(backend, endpoints=endpoints(1)) as app:
            metrics = measured(app, timeout=60.0)
            queued = {"endpoint": "e0", "phase": "received"}
            seen: list[tuple[float | None, float | None]] = []

            async def scrapes() -> None:
                for _ in range(6):
                    backend.keep = (Stats, IndexEndpoints)
                    found = scrape(metrics)
                    value = found.value("pollin_queued_callbacks", **queued)
                    seen.append((found.value("pollin_up"), value))
                    backend.answer()
                    backend.keep = ()
                    await app.callbacks.push("e0", Callback.new(b""))

            asyncio.run(scrapes())
        # First the list, then the endpoint; from then on all is known.
        assert [up for up, _ in seen] == [0, 0, 1, 1, 1, 1]
        assert [value for _, value in seen] == [None, None, 1, 2, 3, 4]

    def test_what_is_asked_again_after_a_rest_is_not_late_yet(self) -> None:
        """Where nothing is waited for: neither the list nor an endpoint that was left alone."""
        backend = Recorder()
        app = Application(endpoints=endpoints(1))
        with Tester(app, backend=backend) as tester:
            looks = Looks(app, Names(10))
            later = tester.clock.time_ns() + 10**15
            for _ in range(FEW + 1):
                tester.push("e0", not_before=later)

            def complete() -> bool:
                """Whether a look is, whose answers come later."""
                backend.keep = (IndexEndpoints, Stats)
                seen = looks.look(0.0).complete
                tester.advance(1.0)
                backend.answer()
                backend.keep = ()
                return seen

            assert [complete() for _ in range(3)] == [False, False, True]
            backend.asked.clear()
            for _ in range(4):
                # Longer than each of them rests.
                tester.advance(2 * INDEX_SHARE)
                assert complete()
            asked = [type(it) for it in backend.asked]
            assert asked.count(Stats) == 4
            assert asked.count(IndexEndpoints) == 2
            # Late, and then failed: both are told.
            backend.keep = (IndexEndpoints, Stats)
            tester.advance(2 * INDEX_SHARE)
            assert looks.look(0.0).complete
            assert not looks.look(0.0).complete
            error = BackendUnavailable("recorder", "broken")
            for reply, _ in backend.kept:
                reply.set_exception((type(error), error, None))
            backend.kept.clear()
            assert not looks.look(0.0).complete

    def test_a_list_that_nobody_has_waited_for_is_read_again_soon(self) -> None:
        """What counts is how long its answer took, and not when somebody looked at it."""
        backend = Recorder()
        app = Application(endpoints=endpoints(1))
        with Tester(app, backend=backend) as tester:
            looks = Looks(app, Names(10))
            backend.keep = (IndexEndpoints,)
            looks.look(0.0)
            tester.advance(0.1)
            backend.answer()
            backend.keep = ()
            tester.advance(30.0)
            looks.look(0.0)
            app.endpoints.create(Endpoint.new(id="new")).get()
            tester.advance(0.1 * INDEX_SHARE + 0.1)
            assert "new" in looks.look(0.0).named

    def test_what_is_asked_about_one_that_was_deleted_is_let_go_of(self) -> None:
        backend = Recorder()
        app = Application(endpoints=endpoints(2))
        with Tester(app, backend=backend):
            looks = Looks(app, Names(10))
            backend.keep = (Stats,)
            looks.look(0.0)
            app.endpoints.delete("e0").get()
            looks.look(0.0)
            assert list(looks._asked) == ["e1"]

    def test_on_an_event_loop_not_even_for_another_scrape(self) -> None:
        """Which waits itself, on a thread: what was seen before is given."""
        entered, go_on = threading.Event(), threading.Event()

        class Held(MemoryBackend):
            held = False

            def execute(self, message: Any) -> Any:
                if self.held and isinstance(message, Stats):
                    self.held = False
                    entered.set()
                    assert go_on.wait(60)
                return super().execute(message)

        backend = Held()
        with Application(backend, endpoints=endpoints(1)) as app:
            metrics = measured(app)
            app.callbacks.push("e0", Callback.new(b"")).get()
            scrape(metrics)
            backend.held = True
            other = threading.Thread(target=scrape, args=(metrics,))
            other.start()
            assert entered.wait(60)

            async def look() -> Any:
                return scrape(metrics)

            seen = asyncio.run(look())
            go_on.set()
            other.join()
            assert seen.value("pollin_up") == 0
            queued = seen.value("pollin_queued_callbacks", endpoint="e0", phase="received")
            assert queued == 1
            assert scrape(metrics).value("pollin_up") == 1

    def test_within_an_actor_nothing_is_waited_for(self) -> None:
        """Not even in one that must not wait."""
        backend = Recorder()
        app = Application(backend, endpoints=endpoints(1))
        metrics = measured(app, timeout=60.0)

        class Scraper(Actor):
            never_blocks = True

            def on_receive(self, message: Any) -> Any:
                return scrape(metrics).value("pollin_up")

        with app:
            backend.keep = (Stats,)
            scraper = Scraper.start()
            assert scraper.ask("now") == 0
            backend.answer()
            backend.keep = ()
            assert scraper.ask("now") == 1
            scraper.stop()

    def test_actors_are_not_woken(self) -> None:
        """None is started, and none is kept from being passivated."""
        with Application(endpoints=endpoints(20)) as app:
            metrics = measured(app)
            before = app._registry
            assert before is not None
            names = set(before.names())
            scrape(metrics)
            assert set(before.names()) == names


class TestMany:
    def test_what_a_backend_counts_one_by_one_is_not_asked_each_time(self) -> None:
        """Many callbacks that are delayed: their endpoint is left alone for a while."""
        backend = Recorder()
        app = Application(endpoints=endpoints(2))
        with Tester(app, backend=backend) as tester:
            looks = Looks(app, Names(10))
            later = tester.clock.time_ns() + 10**15
            for _ in range(FEW + 1):
                tester.push("e0", not_before=later)
            assert looks.look(0.0).named["e0"].stats.delayed == FEW + 1

            def asked() -> list[str]:
                backend.asked.clear()
                assert looks.look(0.0).complete
                return [it.endpoint_id for it in backend.asked if isinstance(it, Stats)]

            assert asked() == ["e1"]
            tester.advance(FEW * REST_S)
            assert asked() == ["e1"]
            tester.advance(2 * REST_S)
            assert asked() == ["e0", "e1"]


class TestFailures:
    def test_a_backend_that_fails(self) -> None:
        """The scrape says so, and gives what was known; the next one is as ever."""
        backend = FaultyBackend(MemoryBackend())
        app = Application(endpoints=endpoints(2))
        metrics = measured(app)
        with Tester(app, backend=backend) as tester:
            tester.push("e0")
            scrape(metrics)
            for kind in (IndexEndpoints, Stats, FetchSlice):
                backend.fail(kind)
                seen = scrape(metrics)
                assert seen.value("pollin_up") == 0
                queued = seen.value("pollin_queued_callbacks", endpoint="e0", phase="received")
                assert queued == 1
                assert scrape(metrics).value("pollin_up") == 1

    def test_answers_that_are_failures(self) -> None:
        """Also as futures of the standard library."""

        class Later(MemoryBackend):
            broken = False

            def execute(self, message: Any) -> Any:
                if not isinstance(message, Stats | IndexEndpoints):
                    return super().execute(message)
                reply: concurrent.futures.Future[Any] = concurrent.futures.Future()
                if self.broken:
                    reply.set_exception(BackendUnavailable("later", "broken"))
                else:
                    reply.set_result(super().execute(message))
                return reply

        backend = Later()
        with Application(backend, endpoints=endpoints(1)) as app:
            metrics = measured(app)
            assert scrape(metrics).value("pollin_up") == 1
            backend.broken = True
            assert scrape(metrics).value("pollin_up") == 0
            backend.broken = False
            assert scrape(metrics).value("pollin_up") == 1

    def test_an_endpoint_that_was_deleted_meanwhile_is_no_failure(self) -> None:
        backend = Recorder()
        app = Application(endpoints=endpoints(2))
        metrics = measured(app)
        with Tester(app, backend=backend):
            scrape(metrics)
            backend.keep = (IndexEndpoints,)
            scrape(metrics)
            # The list that is on its way was read before.
            reply, message = backend.kept.pop()
            listed = MemoryBackend.execute(backend, message)
            app.endpoints.delete("e0").get()
            reply.set(listed)
            backend.keep = ()
            assert scrape(metrics).value("pollin_up") == 1

    def test_an_application_that_stops_meanwhile(self) -> None:
        """Scrapes go on beside starts and stops, and none of them fails."""
        app = Application(endpoints=endpoints(3))
        metrics = measured(app)
        over = threading.Event()
        failures: list[BaseException] = []
        seen: set[float | None] = set()

        def scrapes() -> None:
            try:
                while not over.is_set():
                    seen.add(scrape(metrics).value("pollin_up"))
            except BaseException as error:
                failures.append(error)

        scraper = threading.Thread(target=scrapes)
        scraper.start()
        for _ in range(20):
            with app:
                app.callbacks.push("e0", Callback.new(b"")).get()
                scrape(metrics)
        over.set()
        scraper.join()
        assert failures == []
        assert seen <= {0.0, 1.0}


class TestNames:
    def test_a_place_is_free_when_its_endpoint_is_deleted(self) -> None:
        names = Names(2)
        assert [names.label(each) for each in "abc"] == ["a", "b", "other"]
        assert names.exist(["b", "c"]) == set()
        assert names.exist(["b", "c"]) == {"a"}
        assert [names.label(each) for each in "abc"] == ["other", "b", "c"]

    def test_one_that_was_created_since_the_list_was_read_keeps_its_name(self) -> None:
        names = Names(2)
        names.label("new")
        assert names.exist(["a"]) == set()
        assert names.exist(["a", "new"]) == set()
        assert names.exist(["a"]) == set()
        assert names.label("new") == "new"

    def test_they_are_given_in_the_order_of_creation(self) -> None:
        names = Names(2)
        names.exist(["a", "b", "c"])
        assert [names.label(each) for each in "cba"] == ["other", "b", "a"]

    def test_several_threads_name_no_more_than_so_many(self) -> None:
        for _ in range(50):
            names = Names(3)
            together = threading.Barrier(4)

            def name(number: int, names: Names = names, together: Any = together) -> None:
                together.wait()
                for each in range(10):
                    names.label(f"{number}.{each}")

            threads = [threading.Thread(target=name, args=(number,)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            assert len(names._named) == 3


@pytest.mark.parametrize("count", [1, 3, 10])
def test_in_the_end_all_others_have_been_asked(count: int) -> None:
    """A look asks about a few at a time, and leaves nobody out, whoever comes or goes."""
    backend = Recorder()
    app = Application(endpoints=endpoints(30))
    with Tester(app, backend=backend):
        looks = Looks(app, Names(count))
        for number in range(30):
            backend.asked.clear()
            looks.look(0.0)
            assert len([it for it in backend.asked if isinstance(it, Stats)]) <= 2 * count
            if number == 3:
                app.endpoints.delete("e29").get()
                app.endpoints.create(Endpoint.new(id="late")).get()
        view = looks.look(0.0)
        assert len(view.named) + len(view.others) == 30


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_that_is_forked_during_a_scrape() -> None:
    """Its own scrapes wait for nobody: they give what was counted, and say that the inbox does not
    run there; those of the parent are as ever."""
    program = """
        import os, threading, warnings
        warnings.simplefilter("ignore")
        from prometheus_client import CollectorRegistry
        from pollin_actors import Application, Callback, Endpoint
        from pollin_actors.backends.memory import MemoryBackend
        from pollin_actors.messages import Stats
        from pollin_actors.telemetry import PrometheusMetrics

        looking, go_on = threading.Event(), threading.Event()

        class Held(MemoryBackend):
            def execute(self, message):
                if isinstance(message, Stats) and os.getpid() == parent:
                    looking.set()
                    go_on.wait(60)
                return super().execute(message)

        parent = os.getpid()
        app = Application(Held(), endpoints=[Endpoint.new(id="orders")]).start()
        metrics = PrometheusMetrics(app, registry=CollectorRegistry())
        app.callbacks.push("orders", Callback.new(b"")).get()
        scraper = threading.Thread(target=metrics.render)
        scraper.start()
        assert looking.wait(60)
        pid = os.fork()
        if pid == 0:
            body, _ = metrics.render()
            good = b"pollin_up 0.0" in body and b"pollin_pushes_total" in body
            os._exit(0 if good and b"pollin_queued" not in body else 1)
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        go_on.set()
        scraper.join()
        assert b"pollin_up 1.0" in metrics.render()[0]
        app.stop()
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program)],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
