"""What the forms do, to one and to all."""

from __future__ import annotations

import asyncio
import re
import threading
import time
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from structlog.testing import capture_logs

from pollin_actors import Application, Callback, Endpoint, Secret
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import DeleteCallback
from pollin_actors.records import Kind
from pollin_actors.resources import Intake
from pollin_actors.testing import FaultyBackend
from pollin_actors.web import asgi
from pollin_actors.web.dashboard.jobs import MOST_ACTIVE
from tests.web.dashboard.visitor import Visitor, orders, push, push_all, text_of


def phase_of(app: Application, key: str) -> str | None:
    found = app.callbacks.fetch("orders", key=key).get()
    return None if found is None else found.phase


def send(app: Application, endpoint_id: str, headers: Any, body: bytes) -> int:
    """What the receiver answers to a webhook."""

    async def call() -> int:
        transport = httpx.ASGITransport(asgi(app))
        async with httpx.AsyncClient(transport=transport, base_url="http://hooks") as client:
            return (await client.post(f"/{endpoint_id}", content=body, headers=headers)).status_code

    return asyncio.run(call())


def one(key: str = "one", **more: str) -> dict[str, Any]:
    return {"endpoint": "orders", "key": key, **more}


def test_one_is_moved(inbox: Application) -> None:
    """Out of the phase that was shown; if it is elsewhere by now it is left alone."""
    push(inbox, id="one")
    with Visitor(inbox) as visitor:
        visitor.login()
        answer = visitor.post("/callback/move", **one(phase_to="done", expect="received"))
        assert "The callback was moved." in visitor.follow(answer)
        assert phase_of(inbox, "one") == "done"
        answer = visitor.post("/callback/move", **one(phase_to="failed", expect="received"))
        assert answer.status_code == 409
        assert phase_of(inbox, "one") == "done"
        assert visitor.post("/callback/move", **one(phase_to="nowhere")).status_code == 422


def test_one_is_replayed(inbox: Application) -> None:
    """As a new callback that names its origin."""
    push(inbox, b"again", id="one")
    with Visitor(inbox) as visitor:
        visitor.login()
        page = visitor.follow(visitor.post("/callback/replay", **one()))
        assert "orders/one" in page
        first, second = inbox.callbacks.fetch("orders", limit=10).get()
        assert second.request == first.request
        assert second.origin == "orders/one"


def test_one_is_deleted_after_a_question(inbox: Application) -> None:
    """The first form asks, the second does it."""
    push(inbox, id="one")
    with Visitor(inbox) as visitor:
        visitor.login()
        asked = visitor.post("/callback/delete", **one())
        assert asked.status_code == 200
        assert "Delete this callback?" in asked.text
        assert phase_of(inbox, "one") == "received"
        fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', asked.text))
        answer = visitor.post("/callback/delete", **one(confirmed=fields["confirmed"]))
        assert "The callback was deleted." in visitor.follow(answer)
        assert phase_of(inbox, "one") is None
        assert "has left the queue" in visitor.page("/callback", **one())


def test_an_endpoint_is_disabled_and_enabled(visitor: Visitor, memory: Application) -> None:
    """After a question; nothing else of it changes."""
    asked = visitor.post("/endpoints/orders/disable")
    assert "Disable orders?" in asked.text
    before = memory.endpoints.find("orders").get()
    visitor.follow(visitor.post("/endpoints/orders/disable", confirmed="1"))
    after = memory.endpoints.find("orders").get()
    assert before is not None
    assert after == before.replace(intake=Intake(enabled=False))
    visitor.follow(visitor.post("/endpoints/orders/enable"))
    assert memory.endpoints.find("orders").get() == before


def test_a_generated_secret_is_shown_once(visitor: Visitor, memory: Application) -> None:
    """To who had it generated, and on no other page."""
    assert visitor.post("/endpoints/orders/rotate", overlap="1").status_code == 422
    with capture_logs() as told:
        answer = visitor.post("/endpoints/orders/rotate", overlap="1", confirmed="1")
    # As every change, and without what it has changed to.
    (changed,) = [it for it in told if it["event"] == "dashboard.changed"]
    assert changed["path"] == "/endpoints/orders/rotate"
    endpoint = memory.endpoints.find("orders").get()
    assert endpoint is not None
    secret = endpoint.secret.reveal()
    assert secret in answer.text
    assert secret not in str(told)
    assert len(endpoint.old_secrets) == 1
    page = visitor.page("/endpoints/orders")
    assert secret not in page
    assert endpoint.old_secrets[0].secret.fingerprint() in page


def test_a_secret_that_is_given_is_shown_nowhere(visitor: Visitor, memory: Application) -> None:
    """Also not where the hours are wrong."""
    given = {"secret": "the-new-one-of-the-sender", "confirmed": "1"}
    answer = visitor.post("/endpoints/orders/rotate", **given, overlap="-1")
    assert answer.status_code == 422
    assert given["secret"] not in answer.text
    page = visitor.follow(visitor.post("/endpoints/orders/rotate", **given, overlap="0"))
    assert given["secret"] not in page
    endpoint = memory.endpoints.find("orders").get()
    assert endpoint is not None
    assert endpoint.secret == given["secret"]
    assert endpoint.secrets_at(memory.runtime.clock.time_ns()) == (endpoint.secret,)


def test_handlers_are_paused_and_go_on() -> None:
    """From the page of their endpoint."""
    app = Application(endpoints=[orders()])

    @app.handler("orders", then="done")
    def book(callback: Callback) -> None:
        pass

    with app, Visitor(app) as visitor:
        visitor.login()
        page = visitor.follow(visitor.post("/handlers/pause", name="book", endpoint="orders"))
        assert "paused" in text_of(page)
        assert app.handlers["book"].state == "paused"
        visitor.follow(visitor.post("/handlers/resume", name="book", endpoint="orders"))
        assert app.handlers["book"].state == "running"
        assert visitor.post("/handlers/pause", name="other").status_code == 404


# -- all that match ------------------------------------------------------------------------------


def act(visitor: Visitor, **fields: Any) -> str:
    """Count what matches; the path of the job."""
    answer = visitor.post("/callbacks/act", endpoint="orders", **fields)
    assert answer.status_code == 303, answer.text
    return str(answer.headers["location"]).removeprefix("/dash")


def wait(visitor: Visitor, path: str, state: str) -> str:
    """The page of a job once it stands so."""
    page = ""
    for _ in range(10_000):
        page = visitor.page(path)
        if f"</span>{state}</span>" in page:
            return text_of(page)
        assert "</span>failed</span>" not in page, page
    raise AssertionError(page)


@pytest.mark.parametrize("text", ["", "yes"])
def test_all_that_match_are_moved(inbox: Application, text: str) -> None:
    """They are counted first, and nothing is done before it was confirmed."""
    push_all(inbox, {f"c{n}": b"no" if n % 3 else b"yes" for n in range(450)})
    with Visitor(inbox) as visitor:
        visitor.login()
        path = act(visitor, action="move", phase_to="done", text=text)
        wanted = 150 if text else 450
        page = wait(visitor, path, "ready")
        assert f"{wanted} callbacks match" in page
        assert inbox.callbacks.count("orders", phase="done").get() == 0
        visitor.follow(visitor.post(f"{path}/confirm"))
        assert f"{wanted} of {wanted} done" in wait(visitor, path, "done")
        assert inbox.callbacks.count("orders", phase="done").get() == wanted
        # A second time it is no question any more.
        assert visitor.post(f"{path}/confirm").status_code == 409


def test_all_that_match_are_deleted(inbox: Application) -> None:
    """And what came after the question is left alone."""
    for number in range(30):
        push(inbox, id=f"c{number}")
    with Visitor(inbox) as visitor:
        visitor.login()
        path = act(visitor, action="delete", phase="received")
        assert "30 callbacks match" in wait(visitor, path, "ready")
        inbox.callbacks.update_phase("orders", key="c7", phase="done").get()
        push(inbox, id="later")
        visitor.post(f"{path}/confirm")
        wait(visitor, path, "done")
        left = [callback.id for callback in inbox.callbacks.dump("orders")]
        assert left == ["c7", "later"]
        page = text_of(visitor.page(path))
        assert "29 of 30 done; 1 left alone" in page


def test_all_that_match_are_replayed(inbox: Application) -> None:
    """Also those that have left the queue, if they are asked for; never what it made itself."""
    inbox.endpoints.create(Endpoint.new(id="other", ttl=0)).get()
    for number in range(20):
        push(inbox, id=f"c{number}")
    inbox.callbacks.pop("orders", limit=5).get()
    with Visitor(inbox) as visitor:
        visitor.login()
        path = act(visitor, action="replay", into="other", kept="1")
        assert "20 callbacks match" in wait(visitor, path, "ready")
        visitor.post(f"{path}/confirm")
        wait(visitor, path, "done")
        made = list(inbox.callbacks.dump("other"))
        assert sorted(callback.origin or "" for callback in made) == sorted(
            f"orders/c{number}" for number in range(20)
        )
        path = act(visitor, action="replay", into="orders", text="c")
        page = wait(visitor, path, "ready")
        assert "15 callbacks match" in page
        visitor.post(f"{path}/confirm")
        wait(visitor, path, "done")
        assert inbox.callbacks.count("orders").get() == 30


def test_a_job_can_be_stopped_before_it_begins(visitor: Visitor, memory: Application) -> None:
    """Then nothing was done, and nothing can be."""
    push(memory, id="one")
    path = act(visitor, action="delete")
    visitor.follow(visitor.post(f"{path}/stop"))
    assert visitor.post(f"{path}/confirm").status_code == 409
    assert phase_of(memory, "one") == "received"


def test_a_job_is_stopped_in_the_middle(visitor: Visitor, memory: Application) -> None:
    """After the step that is under way; what was done stays done."""
    push_all(memory, {f"c{n}": b"" for n in range(1_000)})
    path = act(visitor, action="delete")
    jobs = visitor.service.state.shared.jobs
    job = jobs.find(path.rpartition("/")[2])
    stepped = threading.Event()

    def step() -> None:
        jobs.stop(job)
        stepped.set()

    jobs.watch(job.id, step)
    visitor.post(f"{path}/confirm")
    assert stepped.wait(30)
    page = text_of(visitor.page(path))
    assert "stopped" in page
    assert 0 < job.done < 1_000
    assert memory.callbacks.count("orders").get() == 1_000 - job.done


def test_what_fails_says_what_was_done(visitor: Visitor, memory: Application) -> None:
    """The endpoint is gone: the job fails, and its page says so."""
    push(memory, id="one")
    path = act(visitor, action="delete")
    memory.endpoints.delete("orders").get()
    visitor.post(f"{path}/confirm")
    page = ""
    for _ in range(10_000):
        page = text_of(visitor.page(path))
        if "failed" in page:
            break
    assert "What was done stays done" in page
    assert "does not exist" in page


def test_what_was_done_before_a_failure_is_counted() -> None:
    """Of those under way when one fails, too."""
    backend = FaultyBackend(MemoryBackend())
    with Application(backend, endpoints=[orders()]) as app, Visitor(app) as visitor:
        visitor.login()
        push_all(app, {f"c{n}": b"" for n in range(100)})
        path = act(visitor, action="delete")
        backend.fail(DeleteCallback, skip=40, times=1)
        visitor.post(f"{path}/confirm")
        job = visitor.service.state.shared.jobs.find(path.rpartition("/")[2])
        for _ in range(10_000):
            visitor.page(path)
            if not job.active:
                break
        assert job.state == "failed"
        assert app.callbacks.count("orders").get() == 100 - job.done
        assert job.done == 63


def test_jobs_are_bounded_and_unknown_ones_are_not_found(
    visitor: Visitor, memory: Application
) -> None:
    """So many are at work at once; others are refused, as is nonsense."""
    jobs = visitor.service.state.shared.jobs
    push(memory, id="one")
    paths = [act(visitor, action="delete") for _ in range(MOST_ACTIVE)]
    for path in paths:
        jobs.find(path.rpartition("/")[2]).state = "running"
    assert visitor.post("/callbacks/act", endpoint="orders", action="delete").status_code == 503
    assert visitor.get("/jobs/nothing").status_code == 404
    for fields in ({"action": "burn"}, {"action": "move", "phase_to": "nowhere"}, {}):
        assert visitor.post("/callbacks/act", endpoint="orders", **fields).status_code == 422
    answer = visitor.post("/callbacks/act", endpoint="orders", action="replay", into="nothing")
    assert answer.status_code == 404


# -- dead letters and quarantine -----------------------------------------------------------------


@pytest.fixture
def dead() -> Iterator[tuple[Application, Visitor]]:
    """Three dead letters, of a handler that fails until it is told not to."""
    app = Application(endpoints=[orders()])
    handled = []

    @app.handler("orders", then="done", dead_letter="failed", max_attempts=1)
    def book(callback: Callback) -> None:
        handled.append(callback.id)
        raise ValueError("no <b>money</b>")

    with app, Visitor(app) as visitor:
        for number in range(3):
            push(app, id=f"c{number}")
        with app.callbacks.subscribe("orders", kinds=[Kind.DEAD]) as news:
            for _, _record in zip(range(3), news, strict=False):
                pass
        app.handlers.pause("book").get()
        yield app, visitor.login()


def test_dead_letters_are_listed_with_their_failure(dead: tuple[Application, Visitor]) -> None:
    """Where the handler puts them, and what it said."""
    _, visitor = dead
    page = visitor.page("/dead-letters")
    assert page.count("ValueError: no &lt;b&gt;money&lt;/b&gt;") == 3
    assert "Dead letters 3" in text_of(visitor.page("/"))
    assert "No dead letters" in visitor.page("/dead-letters", endpoint="orders", phase="done")


def test_dead_letters_are_tried_again_or_discarded(dead: tuple[Application, Visitor]) -> None:
    """One of them, and then all."""
    app, visitor = dead
    where = {"endpoint": "orders", "phase": "failed", "back": "received"}
    visitor.follow(visitor.post("/dead-letters/retry", **where, key="c0"))
    assert phase_of(app, "c0") == "received"
    assert visitor.post("/dead-letters/retry", **where, key="c0").status_code == 409
    asked = visitor.post("/dead-letters/discard", **where, key="c1")
    assert "Discard it?" in asked.text
    visitor.follow(visitor.post("/dead-letters/discard", **where, key="c1", confirmed="1"))
    assert phase_of(app, "c1") is None
    path = visitor.post("/dead-letters/retry", **where).headers["location"].removeprefix("/dash")
    assert "1 callback matches" in wait(visitor, path, "ready")
    visitor.post(f"{path}/confirm")
    wait(visitor, path, "done")
    assert phase_of(app, "c2") == "received"
    assert visitor.post("/dead-letters/retry", **{**where, "back": "failed"}).status_code == 422


def test_what_was_moved_meanwhile_is_not_discarded(dead: tuple[Application, Visitor]) -> None:
    """Somebody has it tried again while another thinks about the question."""
    app, visitor = dead
    where = {"endpoint": "orders", "phase": "failed", "key": "c0"}
    assert "Discard it?" in visitor.post("/dead-letters/discard", **where).text
    app.callbacks.update_phase("orders", key="c0", phase="received").get()
    assert visitor.post("/dead-letters/discard", **where, confirmed="1").status_code == 409
    assert phase_of(app, "c0") == "received"
    app.callbacks.pop("orders", key="c0").get()
    assert visitor.post("/dead-letters/discard", **where, confirmed="1").status_code == 404


@pytest.fixture
def doubtful() -> Iterator[tuple[Application, Visitor]]:
    """Two requests that did not verify, as the endpoint has another secret than the sender."""
    intake = Intake("github", verify="later")
    later = Endpoint.new(id="later", ttl=0, secret="the-wrong-one", intake=intake)
    with Application(endpoints=[later]) as app, Visitor(app) as visitor:
        for body in (b"one", b"two"):
            headers = intake.scheme.sign(body, Secret("the-right-one"), time.time(), id=str(body))
            assert send(app, "later", headers, body) == 200
        with app.callbacks.subscribe("later.unverified", kinds=[Kind.DEAD]) as news:
            for _, _record in zip(range(2), news, strict=False):
                pass
        yield app, visitor.login()


def test_what_did_not_verify_is_verified_again(doubtful: tuple[Application, Visitor]) -> None:
    """With the reason; once the secret is mended it is taken, one and all."""
    app, visitor = doubtful
    page = visitor.page("/quarantine")
    assert page.count("<button>Verify again") == 2
    assert "signature" in text_of(page)
    place = "later.unverified"
    first, second = app.callbacks.fetch(place, phase="quarantined", limit=9).get()
    shown = text_of(visitor.page("/callback", endpoint=place, key=first.id))
    assert "does not verify" in shown
    app.endpoints.rotate("later", secret="the-right-one").get()
    assert "genuine" in text_of(visitor.page("/callback", endpoint=place, key=first.id))
    visitor.follow(visitor.post("/quarantine/again", endpoint="later", key=first.id))
    with app.callbacks.subscribe("later", kinds=[Kind.PUSHED]) as news:
        next(news)
        answer = visitor.post("/quarantine/again", endpoint="later")
        path = answer.headers["location"].removeprefix("/dash")
        assert "1 callback matches" in wait(visitor, path, "ready")
        visitor.post(f"{path}/confirm")
        next(news)
    assert app.callbacks.count("later").get() == 2
    assert second.id != first.id


def test_what_did_not_verify_is_discarded(doubtful: tuple[Application, Visitor]) -> None:
    """One after a question, all after they were counted."""
    app, visitor = doubtful
    place = "later.unverified"
    first, second = app.callbacks.fetch(place, phase="quarantined", limit=9).get()
    assert "Discard it?" in visitor.post("/quarantine/discard", endpoint="later", key=first.id).text
    form = {"endpoint": "later", "key": first.id, "confirmed": "1"}
    visitor.follow(visitor.post("/quarantine/discard", **form))
    # One that is being verified again is somewhere else.
    app.handlers.pause("verify later").get()
    app.callbacks.update_phase(place, key=second.id, phase="unverified").get()
    assert visitor.post("/quarantine/discard", **{**form, "key": second.id}).status_code == 409
    app.callbacks.update_phase(place, key=second.id, phase="quarantined").get()
    assert app.callbacks.count(place, phase="quarantined").get() == 1
    path = visitor.post("/quarantine/discard", endpoint="later").headers["location"]
    path = path.removeprefix("/dash")
    wait(visitor, path, "ready")
    visitor.post(f"{path}/confirm")
    wait(visitor, path, "done")
    assert app.callbacks.count(place, phase="quarantined").get() == 0
