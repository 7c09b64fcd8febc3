"""What the pages show."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pollin_actors import Application, Callback, Endpoint, Secret, otp
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.messages import Count, FetchReverse, FindEndpoint, History, HistoryPage, Stats
from pollin_actors.otp import ReplyFuture
from pollin_actors.resources import Intake
from pollin_actors.signatures import parse_scheme
from pollin_actors.testing import FaultyBackend
from pollin_actors.web.dashboard import places, unverified
from tests.web.dashboard.visitor import WRITER, Visitor, orders, push, text_of


def test_the_overview_counts(inbox: Application) -> None:
    """What is queued, what came, and the oldest that waits, on each backend."""
    with Visitor(inbox) as visitor:
        visitor.login()
        for number in range(3):
            push(inbox, id=f"c{number}")
        inbox.callbacks.pop("orders").get()
        page = text_of(visitor.page("/"))
        assert "Queued 2" in page
        assert "In, last minute 3" in page
        assert "Done, last minute 1" in page
        assert "3 came in, 1 were done" in visitor.page("/")


def test_without_endpoints_pages_say_so() -> None:
    """Each empty page says what would be there."""
    with Application() as app, Visitor(app) as visitor:
        visitor.login()
        for path in ("/", "/endpoints", "/callbacks"):
            assert "No endpoints yet" in visitor.page(path)
        assert "No endpoint verifies later" in visitor.page("/quarantine")


def test_many_endpoints_come_in_pages() -> None:
    """A page of the overview holds twenty, and leads to the next."""
    endpoints = [Endpoint.new(id=f"e{number:02}") for number in range(45)]
    with Application(endpoints=endpoints) as app, Visitor(app) as visitor:
        visitor.login()
        seen = [visitor.page("/", page=number) for number in range(3)]
        for number in range(45):
            assert [f">e{number:02}<" in page for page in seen].count(True) == 1
        assert ">e44<" in visitor.page("/", page="99")
        assert ">e30<" in visitor.page("/endpoints", text="E3")


def test_endpoints_are_sorted_out_beside_the_event_loop(
    visitor: Visitor, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There may be a hundred thousand, which takes a tenth of a second."""
    threads = []
    sort = places._sorted_out

    def noting(endpoints: list[Endpoint]) -> list[places.Place]:
        threads.append(threading.current_thread())
        return sort(endpoints)

    monkeypatch.setattr(places, "_sorted_out", noting)
    assert ">orders<" in visitor.page("/endpoints")
    assert len(threads) == 1
    assert threads[0] is not visitor.client._thread


def test_an_endpoint_shows_its_settings_and_no_secret(visitor: Visitor) -> None:
    """Its secret is a fingerprint there."""
    endpoint = orders()
    page = visitor.page("/endpoints/orders")
    assert endpoint.secret.fingerprint() in page
    assert endpoint.secret.reveal() not in page
    assert "received" in page
    assert visitor.get("/endpoints/nothing").status_code == 404


def test_quarantines_are_no_endpoints_of_their_own() -> None:
    """Where requests wait to be verified belongs to the endpoint that they are for."""
    later = Endpoint.new(id="later", intake=Intake(verify="later"))
    place = Endpoint.new(
        ["unverified", "quarantined"], id="later.unverified", intake=Intake(enabled=False)
    )
    with Application(endpoints=[later, place]) as app, Visitor(app) as visitor:
        visitor.login()
        assert "later.unverified" not in visitor.page("/endpoints")
        assert "in quarantine" in visitor.page("/endpoints/later")


def test_one_callback_is_shown_whole(memory: Application, visitor: Visitor) -> None:
    """Body, headers, history and sub events; credentials are hidden."""
    headers = [("content-type", "application/json"), ("authorization", "Bearer abc")]
    push(memory, b'{"price": 1.10, "n": 12345678901234567890123}', headers, id="one")
    memory.callbacks.push("orders", Callback.new(b"x", id="below", parent="one")).get()
    memory.callbacks.update_phase("orders", key="one", phase="done").get()
    page = visitor.page("/callback", endpoint="orders", key="one")
    said = text_of(page)
    assert '"price": 1.10,' in said
    assert "12345678901234567890123" in said
    assert "abc" not in said
    assert "received → done" in said
    assert ">below<" in page
    assert "pushed" in said
    assert "moved" in said


@pytest.mark.parametrize(
    ("body", "views"),
    [
        (b'{"a": [1, {}]}', "JSON Text Hex"),
        (b"plain", "Text Hex"),
        (b"\xff\x00", "Hex"),
        (b"[" * 200_000, "Text Hex"),
        (b'{"a": ' + b"9" * 5000 + b"}", "JSON Text Hex"),
    ],
)
def test_bodies_are_shown_as_what_they_are(
    memory: Application, visitor: Visitor, body: bytes, views: str
) -> None:
    """As JSON, as text, in hexadecimal; each view that there is can be asked for."""
    push(memory, body, id="one")
    said = text_of(visitor.page("/callback", endpoint="orders", key="one"))
    assert f"Body {views} " in said
    for view in ("json", "text", "hex", "nothing"):
        visitor.page("/callback", endpoint="orders", key="one", view=view)


def test_a_large_body_is_cut_and_can_be_downloaded(memory: Application, visitor: Visitor) -> None:
    """A page stays small, whatever came."""
    push(memory, b"x" * 1_000_000, id="one")
    page = visitor.page("/callback", endpoint="orders", key="one")
    assert len(page) < 120_000
    assert "only the beginning is shown" in page
    answer = visitor.get("/callback/body", endpoint="orders", key="one")
    assert answer.content == b"x" * 1_000_000


def test_values_of_the_process_are_shown(memory: Application, visitor: Visitor) -> None:
    """What trusted code pushes need not be a request."""
    memory.callbacks.push("orders", Callback.new({"a": b"bytes"}, id="one")).get()
    memory.callbacks.push("orders", Callback.new(None, id="two")).get()
    assert "$" in visitor.page("/callback", endpoint="orders", key="one")
    visitor.page("/callback", endpoint="orders", key="two")
    assert visitor.get("/callback/body", endpoint="orders", key="one").status_code == 422


def test_what_has_left_the_queue_is_still_found(memory: Application, visitor: Visitor) -> None:
    """As long as it is kept; what never was is 404."""
    push(memory, id="one")
    memory.callbacks.pop("orders").get()
    assert "has left the queue" in visitor.page("/callback", endpoint="orders", key="one")
    for key in ("nothing", "x" * 900):
        assert visitor.get("/callback", endpoint="orders", key=key).status_code == 404
    assert visitor.get("/callback", endpoint="orders").status_code == 422


@pytest.mark.parametrize(
    ("secret", "said"),
    [("It's a Secret to Everybody", "genuine"), ("another secret altogether", "does not verify")],
)
def test_signatures_are_verified_again(memory: Application, secret: str, said: str) -> None:
    """By the scheme of the endpoint and its secrets, with the reason why not."""
    scheme = parse_scheme("github")
    signed = Endpoint.new(id="signed", secret="It's a Secret to Everybody", intake=Intake("github"))
    memory.endpoints.create(signed).get()
    headers = scheme.sign(b"Hello, World!", Secret(secret), time.time())
    push(memory, b"Hello, World!", headers, endpoint_id="signed", id="one")
    with Visitor(memory) as visitor:
        visitor.login()
        page = visitor.page("/callback", endpoint="signed", key="one")
        assert said in text_of(page)
        for _, value in headers:
            if value.startswith("sha256="):
                assert value not in page


def test_a_secret_that_was_shown_is_not_missed(memory: Application, visitor: Visitor) -> None:
    """It was checked when it came, and is not stored: that is no refusal."""
    push(memory, b"{}", [("x-pollin-secret", "**********")], id="one")
    said = text_of(visitor.page("/callback", endpoint="orders", key="one"))
    assert "cannot be told" in said


class Fragile(otp.Actor):
    def on_receive(self, message: object) -> object:
        if message == "crash":
            raise RuntimeError("no connection: password=hunter2, token: abcdef")
        return message


@pytest.fixture
def fragile() -> Iterator[tuple[Application, Visitor, threading.Event]]:
    started = threading.Event()

    def told(event: otp.Event) -> None:
        if isinstance(event, otp.Started) and event.restarts:
            started.set()

    spec = otp.ChildSpec("fragile", Fragile, name="fragile")
    with Application(children=[spec], on_event=told) as app, Visitor(app) as visitor:
        yield app, visitor.login(), started


def test_the_tree_shows_crashes_redacted(
    fragile: tuple[Application, Visitor, threading.Event],
) -> None:
    """Who crashed, on what and where; passwords that its text held are hidden."""
    app, visitor, started = fragile
    assert "No crashes" in visitor.page("/tree")
    app.tell("fragile", "crash")
    assert started.wait(30)
    assert app.ask("fragile", "well?").get() == "well?"
    page = visitor.page("/tree")
    said = text_of(page)
    assert "RuntimeError" in said
    assert "no connection" in said
    assert "test_pages.py" in said
    assert "hunter2" not in page
    assert "abcdef" not in page
    assert "fragile RuntimeError" in text_of(visitor.page("/"))


def test_a_large_tree_is_cut() -> None:
    """A page shows a hundred children of a supervisor, and says how many there are."""
    with Application() as app, Visitor(app) as visitor:
        visitor.login()
        starts = [app.start_child(otp.ChildSpec(f"a{n}", Fragile)) for n in range(250)]
        for start in starts:
            start.get()
        page = visitor.page("/tree")
        assert page.count("Fragile") == 100
        assert "and 150 more" in text_of(page)


def test_letters_are_those_of_the_endpoint_that_is_asked_for() -> None:
    """Never those of another, also where there are more endpoints than are listed."""
    endpoints = [orders(id=f"e{number:02}") for number in range(60)]
    with Application(endpoints=endpoints) as app, Visitor(app) as visitor:
        visitor.login()
        for number in (0, 59):
            endpoint_id = f"e{number:02}"
            options: dict[str, Any] = {"name": endpoint_id, "phase": "done"}
            app.add_handler(lambda it: None, endpoint_id, dead_letter="failed", **options)
            push(app, id=f"letter {number}", endpoint_id=endpoint_id, phase="failed")
        for number, other in ((0, 59), (59, 0)):
            page = visitor.page("/dead-letters", endpoint=f"e{number:02}")
            assert f"letter {number}<" in page
            assert f"letter {other}<" not in page
        assert 'id="h-rows"' not in visitor.page("/dead-letters", endpoint="e30")
        assert visitor.get("/dead-letters", endpoint="nowhere").status_code == 404
        assert visitor.get("/dead-letters", endpoint="e00", phase="nowhere").status_code == 422


def test_a_quarantine_is_that_of_the_endpoint_that_is_asked_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Also where there are more of them than are listed."""
    monkeypatch.setattr(unverified, "MOST_PLACES", 1)
    endpoints = [Endpoint.new(id=name, intake=Intake(verify="later")) for name in ("one", "two")]
    disabled = Intake(enabled=False)
    quarantines = [
        Endpoint.new(["unverified", "quarantined"], id=f"{name}.unverified", intake=disabled)
        for name in ("one", "two")
    ]
    with Application(endpoints=[*endpoints, *quarantines]) as app, Visitor(app) as visitor:
        visitor.login()
        for name in ("one", "two"):
            push(app, id=f"held {name}", endpoint_id=f"{name}.unverified", phase="quarantined")
        for name, other in (("one", "two"), ("two", "one")):
            page = visitor.page("/quarantine", endpoint=name)
            assert f"held {name}<" in page
            assert f"held {other}<" not in page
        assert visitor.get("/quarantine", endpoint="nowhere").status_code == 404


def test_without_an_answer_pages_say_so(memory: Application, visitor: Visitor) -> None:
    """503 with when to come again; and the login is there all the same."""
    memory.stop()
    for path in ("/", "/endpoints", "/callbacks", "/tree", "/quarantine", "/dead-letters"):
        answer = visitor.get(path)
        assert answer.status_code == 503
        assert answer.headers["retry-after"]
        assert "Try again" in answer.text
    assert visitor.post("/callback/move", endpoint="orders", key="x").status_code == 503
    assert visitor.get("/login").status_code == 303


class Slow(MemoryBackend):
    """Never answers some questions."""

    slow: type | None = None

    def execute(self, message: Any) -> Any:
        return ReplyFuture() if type(message) is self.slow else super().execute(message)


@pytest.mark.parametrize(
    ("question", "path"),
    [
        (FetchReverse, "/callbacks"),
        (Stats, "/"),
        (HistoryPage, "/"),
        (FindEndpoint, "/endpoints/orders"),
        (History, "/callback?endpoint=orders&key=one"),
        (Count, "/dead-letters?endpoint=orders&phase=failed"),
    ],
)
def test_a_question_that_is_not_answered_has_its_time(question: type, path: str) -> None:
    """Then the page says so, and the others are there."""
    backend = Slow()
    with Application(backend, endpoints=[orders()]) as app:
        push(app, id="one")
        app.add_handler(lambda callback: None, "orders", phase="done", dead_letter="failed")
        with Visitor(app, token=WRITER, timeout=0.05) as visitor:
            visitor.login()
            backend.slow = question
            answer = visitor.get(path)
            assert answer.status_code == 503
            assert "did not answer in time" in answer.text
            assert visitor.get("/tree").status_code == 200


def test_a_backend_that_fails_is_a_page() -> None:
    """It says that it is not available, and once it is the pages are there again."""
    backend = FaultyBackend(MemoryBackend())
    with Application(backend, endpoints=[orders()]) as app, Visitor(app) as visitor:
        visitor.login()
        backend.fail(FetchReverse, times=1)
        assert "not available" in visitor.page("/callbacks", 503)
        visitor.page("/callbacks")


def test_what_another_process_deletes_is_left_out(tmp_path: Path) -> None:
    """What was read a moment ago may be gone: the others are shown all the same."""
    url = f"sqlite:///{tmp_path / 'inbox.db'}"
    later = Endpoint.new(id="later", intake=Intake(verify="later"))
    place = Endpoint.new(
        ["unverified", "quarantined"], id="later.unverified", intake=Intake(enabled=False)
    )
    both = [orders(), later, place]
    with (
        Application(url, endpoints=both) as app,
        Application(url) as other,
        Visitor(app) as visitor,
    ):
        visitor.login()
        assert ">later<" in visitor.page("/")
        for endpoint in (later, place):
            other.endpoints.delete(endpoint.id).get()
        for path in ("/", "/dead-letters", "/callbacks", "/endpoints"):
            assert "orders" in visitor.page(path)
        assert ">later<" not in visitor.page("/")
