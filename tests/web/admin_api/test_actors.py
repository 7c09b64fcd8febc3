"""The supervision tree over HTTP: all of it, in pages; crashes without secrets."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors import Application, otp
from pollin_actors.web.admin_api.cursors import write_cursor
from tests.web.admin_api.api import Api, orders


class Fragile(otp.Actor):
    """Crashes on request, with a text that holds what nobody must see."""

    def on_receive(self, message: object) -> Any:
        if message == "crash":
            raise RuntimeError("no connection to postgresql://inbox: password=hunter2")
        return message


@pytest.fixture
def fragile() -> Iterator[tuple[Api, threading.Event]]:
    started = threading.Event()

    def told(event: otp.Event) -> None:
        if isinstance(event, otp.Started) and event.restarts:
            started.set()

    spec = otp.ChildSpec("fragile", Fragile, name="fragile")
    with Application(children=[spec], on_event=told, endpoints=[orders()]) as app:
        yield Api(app), started


def paths(page: Any) -> list[str]:
    return ["/".join(actor["path"]) for actor in page["actors"]]


def test_the_tree(memory: Application) -> None:
    """Every actor, each after the one above it, and how many there are."""
    memory.callbacks.count("orders").get()
    memory.add_handler(lambda callback: None, "orders", name="bill")
    page = Api(memory).get("//actors")
    assert paths(page) == [
        "application",
        "application/actors",
        "application/callbacks",
        "application/callbacks/orders",
        "application/consumers",
        "application/consumers/bill",
        "application/endpoints",
    ]
    assert page["next"] is None
    assert page["total"] == {"actors": 7, "restarts": 0, "mailbox": page["total"]["mailbox"]}
    root, _, callbacks, one, *_ = page["actors"]
    assert (root["type"], root["strategy"], root["left"]) == ("supervisor", "one_for_one", 0)
    assert (callbacks["actor"], callbacks["name"]) == ("DynamicSupervisor", "pollin.callbacks")
    assert one["uptime"] >= 0
    assert {name: one[name] for name in ("type", "actor", "name", "state", "restarts")} == {
        "type": "worker",
        "actor": "CallbackActor",
        "name": "orders",
        "state": "running",
        "restarts": 0,
    }
    assert one["last_crash"] is None


def test_crashes_are_told_without_secrets(fragile: tuple[Api, threading.Event]) -> None:
    """Who crashed, when, on what and where; a password that its text held is hidden."""
    api, started = fragile
    assert api.get("//crashes") == {"crashes": []}
    api.app.tell("fragile", "crash")
    assert started.wait(30)
    assert api.app.ask("fragile", "well?").get() == "well?"
    page = api.get("//actors")
    [actor] = [actor for actor in page["actors"] if actor["path"][-1] == "fragile"]
    assert (actor["state"], actor["restarts"], actor["generation"]) == ("running", 1, 2)
    assert page["total"]["restarts"] == 1
    assert actor["last_crash"]["message"] == "str"
    assert "no connection" in actor["last_crash"]["error"]
    [crash] = api.get("//crashes")["crashes"]
    assert (crash["child"], crash["error"], crash["number"]) == ("fragile", "RuntimeError", 1)
    assert "password=**********" in crash["text"]
    assert any("test_actors.py" in frame for frame in crash["frames"])
    assert "hunter2" not in json.dumps([page, crash])


@pytest.mark.parametrize("limit", [1, 7, 100])
def test_pages_while_actors_come_and_go(memory: Application, limit: int) -> None:
    """What is there all the while comes exactly once, also if the last one of a page has ended."""
    stays = [f"{number:02}" for number in range(20)]
    for id in stays:
        memory.start_child(otp.ChildSpec(id, Fragile)).get()
    goes = [f"{number:02} goes" for number in range(20)]
    for id in goes:
        memory.start_child(otp.ChildSpec(id, Fragile)).get()
    api, found, query = Api(memory), [], {"limit": limit}
    while True:
        page = api.get("//actors", **query)
        found += paths(page)
        assert len(page["actors"]) <= limit
        if page["next"] is None:
            break
        last = page["actors"][-1]["path"][-1]
        if last in goes:
            memory.terminate_child(last).get()
        memory.start_child(otp.ChildSpec(f"late {len(found)}", Fragile)).get()
        query["cursor"] = page["next"]
    assert len(set(found)) == len(found)
    there = [path.rpartition("/")[2] for path in found]
    assert [id for id in there if id in stays] == stays


def test_so_many_children_of_each(fragile: tuple[Api, threading.Event]) -> None:
    """Those that have crashed come first; how many were left out is told."""
    api, started = fragile
    for number in range(8):
        api.app.start_child(otp.ChildSpec(f"a{number}", Fragile)).get()
    api.app.tell("fragile", "crash")
    assert started.wait(30)
    page = api.get("//actors", children=4)
    assert "application/actors/fragile" in paths(page)
    assert page["total"]["actors"] == 14
    [supervisor] = [actor for actor in page["actors"] if actor["path"][-1] == "actors"]
    assert supervisor["left"] == 5
    [root] = api.get("//actors", children=0)["actors"]
    assert root["left"] == 4


class Odd:
    """An id that has no text."""

    def __str__(self) -> str:
        raise RuntimeError("hunter2")


def test_ids_of_all_kinds_are_told_apart(memory: Application) -> None:
    """Alike as text, very long, half a surrogate pair, none at all: each comes once."""
    odd: list[Any] = [1, "1", "x" * 5_000, "x" * 5_001, "\ud800", Odd(), ("a", 1), "é" * 300]
    for id in odd:
        memory.start_child(otp.ChildSpec(id, Fragile)).get()
    api, found, query = Api(memory), [], {"limit": 1}
    while True:
        page = api.get("//actors", **query)
        found += paths(page)
        if page["next"] is None:
            break
        query["cursor"] = page["next"]
    below = [path for path in found if path.startswith("application/actors/")]
    assert len(below) == len(set(below)) == len(odd)
    assert all(len(path) < 250 for path in below)


@pytest.mark.parametrize("place", [["actors"], ["actors", 1], ["actors", [1]], ["queue", ["a"]]])
def test_other_cursors_are_refused(memory: Application, place: list[Any]) -> None:
    """Whatever they hold."""
    answer = Api(memory).request("GET", "//actors", params={"cursor": write_cursor(*place)})
    assert Api(memory).problem(answer, 422, "invalid-value")["field"] == "query.cursor"


def test_nothing_can_be_done_to_it(memory: Application) -> None:
    """It can be looked at only."""
    for path in ("//actors", "//crashes"):
        answer = Api(memory).request("POST", path, json={})
        assert answer.headers["allow"] == "GET"


def test_while_it_does_not_run() -> None:
    """503, as everything else; what crashed is known still."""
    api = Api(Application())
    api.problem(api.request("GET", "//actors"), 503, "not-running")
    assert api.get("//crashes") == {"crashes": []}
