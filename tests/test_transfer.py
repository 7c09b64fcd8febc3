"""Dumps as NDJSON: what comes back, what is refused, what is shown, and what memory it takes."""

from __future__ import annotations

import json
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors import (
    Application,
    BackendUnavailable,
    Callback,
    Endpoint,
    EndpointNotFound,
    InvalidValue,
    NotRunning,
    Request,
    Secret,
    TooLarge,
    UnknownPhase,
)
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.resources import Intake, OldSecret
from pollin_actors.settings import Settings
from pollin_actors.transfer import dump, load

FIELDS = {"id": "a", "phases": ["in"], "ttl": 0, "created_at": 1, "dedup_for": 2.0}


def utf8(text: str) -> bytes:
    return text.encode("utf-8", "replace")


# Also lone surrogates, which only Python's strings can have, and which pair up in JSON.
TEXTS = st.text(max_size=8) | st.text(
    st.sampled_from(["a", "\ud83d", "\ude00", "\U0001f600", "\u00e9"]), max_size=4
)
HEADERS = st.lists(st.tuples(TEXTS, TEXTS), max_size=4)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXTS | st.binary() | st.floats(allow_nan=False),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.tuples(inner, inner)
        | st.dictionaries(TEXTS | st.just("$"), inner, max_size=3)
    ),
    max_leaves=6,
)
BODIES = st.binary(max_size=40) | st.text(max_size=20).map(utf8)
REQUESTS = st.builds(Request, HEADERS, BODIES) | VALUES

ORDERS = Endpoint.new(["received", "processed"], 0, id="orders", secret="open-sesame")
OTHER = Endpoint.new(["in", "out"], 60_000, id="other", dedup_for=7.5)


@pytest.fixture
def new_backend(tmp_path: Path) -> Callable[[], SqliteBackend]:
    numbers = count()
    return lambda: SqliteBackend(tmp_path / f"{next(numbers)}.db", durability="normal")


@pytest.fixture
def app() -> Iterator[Application]:
    with Application(endpoints=[ORDERS, OTHER]) as running:
        yield running


@pytest.fixture
def empty() -> Iterator[Application]:
    with Application() as running:
        yield running


def fill(app: Application) -> None:
    for number in range(5):
        app.callbacks.push("orders", Callback.new(Request([], b"x"), id=f"c{number}")).get()
    app.callbacks.update_phase("orders", key="c3", phase="processed").get()
    app.callbacks.pop("orders").get()
    app.callbacks.push("other", Callback.new(b"\xff", id="c1", phase="out")).get()


def contents(app: Application) -> dict[str, list[Callback]]:
    endpoints = app.endpoints.index().get()
    return {endpoint.id: list(app.callbacks.dump(endpoint.id)) for endpoint in endpoints}


def endpoints_of(app: Application) -> list[Endpoint]:
    return sorted(app.endpoints.index().get(), key=lambda endpoint: endpoint.id)


def parsed(lines: Iterator[bytes]) -> list[Any]:
    return [json.loads(line) for line in lines]


class TestWhatComesBack:
    @pytest.mark.parametrize("durable", [False, True])
    def test_is_everything_that_is_queued(
        self, app: Application, new_backend: Callable[[], SqliteBackend], durable: bool
    ) -> None:
        """From memory to SQLite, or to memory: order, phases, times, endpoints, secrets."""
        fill(app)
        with Application(new_backend() if durable else None) as other:
            loaded = load(other, dump(app, secrets=True))

            assert loaded == (2, 5, 0)
            assert contents(other) == contents(app)
            assert other.endpoints.index().get() == app.endpoints.index().get()
            assert b"".join(dump(other, secrets=True)) == b"".join(dump(app, secrets=True))

    @settings(max_examples=40, deadline=None)
    @given(requests=st.lists(REQUESTS, max_size=6))
    def test_is_every_request_byte_for_byte(self, requests: list[Any]) -> None:
        with Application(endpoints=[ORDERS]) as app, Application() as other:
            for request in requests:
                app.callbacks.push("orders", Callback.new(request)).get()
            lines = list(dump(app))
            load(other, lines)

            assert all(line.isascii() and line.count(b"\n") == 1 for line in lines)
            found = [callback.request for callback in contents(other)["orders"]]
            assert found == requests
            assert repr(found) == repr(requests)  # 1 is not True, 0.0 not -0.0

    def test_adds_nothing_the_second_time(self, app: Application, empty: Application) -> None:
        fill(app)
        lines = list(dump(app))
        with pytest.raises(InvalidValue, match="cut off"):
            load(empty, lines[:5])

        assert load(empty, lines) == (0, 3, 2)
        assert load(empty, [line.decode() for line in lines]) == (0, 0, 5)
        assert contents(empty) == contents(app)

    def test_has_phases_that_the_endpoint_has_no_more(
        self, app: Application, empty: Application
    ) -> None:
        """Queued callbacks keep theirs when an endpoint loses it, and so they do when loaded."""
        fill(app)
        app.endpoints.update(ORDERS.replace(phases=("received",))).get()
        assert load(empty, dump(app, secrets=True)) == (2, 5, 0)
        assert contents(empty) == contents(app)
        assert empty.endpoints.index().get() == app.endpoints.index().get()

    def test_has_all_that_endpoints_and_callbacks_have(self, empty: Application) -> None:
        """Also more than the capacity, which was lowered, takes."""
        full = ORDERS.replace(
            keep_for=60.0,
            consumes=("received",),
            capacity=9,
            capacity_bytes=10_000,
            intake=Intake("none", rate=2.5),  # is made a Scheme
            old_secrets=[OldSecret(Secret("open-barley"), 2**62)],
        )
        with Application(endpoints=[full]) as app:
            push = app.callbacks.push
            push("orders", Callback.new(b"x", id="1")).get()
            push("orders", Callback.new(b"x", id="2"), parent="1", ordering_key="k").get()
            third = Callback.new(b"x", id="3", fence="f")
            push("orders", third, parent="2", not_before=2**62).get()
            app.callbacks.replay("orders", name="n", filter=lambda c: c.id == "2").get()
            app.endpoints.update(full.replace(capacity=2)).get()
            assert load(empty, dump(app, secrets=True)) == (1, 4, 0)
            assert contents(empty) == contents(app)
            assert empty.endpoints.index().get() == app.endpoints.index().get()
        [_, _, third, copy] = contents(empty)["orders"]
        assert (third.parent, third.root, third.not_before) == ("2", "1", 2**62)
        assert third.fence == "f"
        assert copy.origin == "orders/2"

    def test_lets_sub_events_without_their_parents_stand_alone(
        self, app: Application, empty: Application
    ) -> None:
        """Their parent has left the queue, and a dump holds what is queued."""
        app.callbacks.push("orders", Callback.new(b"x", id="1")).get()
        for id in "234":
            parent = "1" if id < "4" else "3"
            app.callbacks.push("orders", Callback.new(b"x", id=id), parent=parent).get()
        app.callbacks.pop("orders", key="1").get()
        load(empty, dump(app))
        found = {c.id: (c.parent, c.root) for c in contents(empty)["orders"]}
        assert found == {"2": (None, None), "3": (None, None), "4": ("3", "3")}

    def test_finds_parents_that_are_kept(self, app: Application) -> None:
        """A dump that is loaded where the parent is known already keeps the line."""
        app.callbacks.push("orders", Callback.new(b"x", id="1")).get()
        for id in "23":
            app.callbacks.push("orders", Callback.new(b"x", id=id), parent="1").get()
        app.callbacks.pop("orders", key="1").get()
        lines = list(dump(app))
        app.callbacks.reset("orders").get()
        app.callbacks.push("orders", Callback.new(b"x", id="1")).get()
        app.callbacks.pop("orders").get()
        load(app, lines)
        assert [(c.id, c.parent) for c in contents(app)["orders"]] == [("2", "1"), ("3", "1")]

    def test_of_an_earlier_version_is_understood(self, empty: Application) -> None:
        endpoint = FIELDS
        callback = {"endpoint": "a", "id": "c", "phase": "in", "created_at": 2, "value": None}
        end = {"end": {"endpoints": 1, "callbacks": 1}}
        lines = [HEADER, *map(json.dumps, ({"endpoint": endpoint}, {"callback": callback}, end))]
        assert load(empty, lines) == (1, 1, 0)
        found = empty.endpoints.find("a").get()
        assert found is not None
        assert (found.keep_for, found.consumes, found.capacity) == (86_400.0, (), None)
        assert (found.intake, found.old_secrets) == (Intake(), ())

    def test_may_lack_what_was_deleted_meanwhile(self, app: Application) -> None:
        lines = dump(app)
        first = next(lines)
        app.endpoints.delete("orders").get()
        assert len([first, *lines]) == 4
        with pytest.raises(EndpointNotFound):
            list(dump(app, ["orders"]))

    def test_leaves_endpoints_that_exist_as_they_are(self, app: Application) -> None:
        fill(app)
        mine = Endpoint.new(["received", "processed"], 0, id="orders", secret="mine")
        with Application(endpoints=[mine]) as other:
            assert load(other, dump(app)).endpoints == 1
            assert other.endpoints.find("orders").get() == mine

    def test_is_of_the_endpoints_named(self, app: Application) -> None:
        fill(app)
        found = parsed(dump(app, ["other"]))

        assert [list(line) for line in found[1:]] == [["endpoint"], ["callback"], ["end"]]
        assert found[2]["callback"]["id"] == "c1"
        assert len(list(dump(app, ["other", "other"]))) == len(found)
        with pytest.raises(EndpointNotFound):
            next(dump(app, ["nobody"]))
        with pytest.raises(InvalidValue, match="put it into a list"):
            next(dump(app, "other"))


KILLED = """
import os, sys
from pollin_actors import Application
from pollin_actors.transfer import load

url, path, left, updates = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])

def lines(file):
    for number, line in enumerate(file):
        if number == left:
            os._exit(9)
        yield line

with Application(url) as app, open(path, "rb") as file:
    update = app.endpoints.update
    def count(*arguments, **options):
        global updates
        updates -= 1
        if updates < 0:
            os._exit(9)
        return update(*arguments, **options)
    app.endpoints.update = count
    load(app, lines(file))
"""


class TestALoadThatWasKilled:
    """The next load of the same dump finishes it."""

    @pytest.fixture
    def source(self) -> Iterator[Application]:
        """Endpoints that hold more than they take: beyond the capacity, in a phase of old."""
        tight, wide = (
            Endpoint.new(["in", "old"], 0, id=id, secret="open-sesame", capacity=limit)
            for id, limit in (("tight", 9), ("wide", None))
        )
        with Application(endpoints=[tight, wide]) as app:
            for endpoint in (tight, wide):
                for number, phase in enumerate(("in", "old", "in")):
                    callback = Callback.new(b"x", id=f"c{number}", phase=phase)
                    app.callbacks.push(endpoint.id, callback).get()
                phases, limit = ("in", "new"), 2 if endpoint.capacity else None
                app.endpoints.update(endpoint.replace(phases=phases, capacity=limit)).get()
            yield app

    @pytest.mark.parametrize(
        ("lines", "updates"),
        [*[(number, 99) for number in range(2, 10)], (99, 0), (99, 1), (99, 2), (99, 3)],
    )
    @pytest.mark.parametrize("secrets", [True, False])
    def test_is_finished_by_the_next(
        self, source: Application, tmp_path: Path, lines: int, updates: int, secrets: bool
    ) -> None:
        """Wherever it was killed: with the capacity and the phases of the dump in the end."""
        path, url = tmp_path / "dump", f"sqlite:///{tmp_path / 'inbox.db'}?durability=normal"
        path.write_bytes(b"".join(dump(source, secrets=secrets)))
        arguments = [url, str(path), str(lines), str(updates)]
        killed = subprocess.run([sys.executable, "-c", KILLED, *arguments], check=False)
        assert killed.returncode == 9
        with Application(url) as app, path.open("rb") as file:
            assert load(app, file).endpoints == max(0, 3 - lines)
            assert contents(app) == contents(source)
            shown = [endpoint.replace(secret="any-of-them") for endpoint in endpoints_of(app)]
            wanted = [endpoint.replace(secret="any-of-them") for endpoint in endpoints_of(source)]
            assert shown == wanted
            if secrets:
                assert endpoints_of(app) == endpoints_of(source)

    def test_whose_error_was_told_is_finished_too(
        self, source: Application, empty: Application
    ) -> None:
        """A dump that was cut off leaves endpoints as the dump has them; the whole one fits."""
        lines = list(dump(source))
        for end in range(1, len(lines)):
            with pytest.raises(InvalidValue, match="cut off"):
                load(empty, lines[:end])
            found = {it.id: (it.phases, it.capacity) for it in endpoints_of(empty)}
            assert (
                found.items()
                <= {
                    "tight": (("in", "new"), 2),
                    "wide": (("in", "new"), None),
                }.items()
            )
        assert load(empty, lines) == (0, 0, 6)
        assert contents(empty) == contents(source)

    def test_keeps_what_was_changed_meanwhile(
        self, source: Application, empty: Application
    ) -> None:
        """A secret that is rotated while a dump is loaded is not taken back."""

        def slowly() -> Iterator[bytes]:
            for number, line in enumerate(dump(source, secrets=True)):
                if number == 5:
                    empty.endpoints.rotate("tight", secret="open-barley", overlap=0).get()
                yield line

        load(empty, slowly())
        tight = empty.endpoints.find("tight").get()
        assert tight is not None
        assert tight.secret == "open-barley"
        assert (tight.phases, tight.capacity) == (("in", "new"), 2)

    def test_of_another_endpoint_is_no_matter(
        self, source: Application, empty: Application
    ) -> None:
        """What was changed since, or only has the same id, is left as it is."""
        lines = list(dump(source))
        load(empty, lines)
        changed = [it.replace(phases=("in", "old"), capacity=5) for it in endpoints_of(empty)]
        for endpoint in changed:
            empty.endpoints.update(endpoint).get()
        load(empty, lines)
        assert endpoints_of(empty) == changed

    @pytest.mark.parametrize("name", ["create", "update"])
    def test_what_had_no_answer_is_taken_back_too(
        self, source: Application, empty: Application, name: str
    ) -> None:
        """An endpoint that was made or changed, though nobody was told, is as the dump has it."""
        call = getattr(empty.endpoints, name)

        def unanswered(*arguments: Any, **options: Any) -> Any:
            setattr(empty.endpoints, name, call)
            call(*arguments, **options).get()
            raise BackendUnavailable("memory", "no answer")

        setattr(empty.endpoints, name, unanswered)
        with pytest.raises(BackendUnavailable):
            load(empty, dump(source))
        for endpoint in endpoints_of(empty):
            assert (endpoint.phases, endpoint.capacity) == (
                ("in", "new"),
                2 if endpoint.id == "tight" else None,
            )
        load(empty, dump(source))
        assert contents(empty) == contents(source)

    def test_a_failure_to_restore_is_told(self, source: Application, empty: Application) -> None:
        """Nobody is told that a dump is loaded while an endpoint has no capacity."""

        def fail(*arguments: Any, **options: Any) -> Any:
            raise BackendUnavailable("memory", "update", "out of order")

        lines, update = list(dump(source)), empty.endpoints.update

        def given() -> Iterator[bytes]:
            yield from lines[:-1]
            empty.endpoints.update = fail  # type: ignore[method-assign]
            yield lines[-1]

        with pytest.raises(BackendUnavailable):
            load(empty, given())
        empty.endpoints.update = update  # type: ignore[method-assign]
        assert load(empty, lines) == (0, 0, 6)
        assert [it.capacity for it in endpoints_of(empty)] == [2, None]
        assert all(it.phases == ("in", "new") for it in endpoints_of(empty))


class TestSecrets:
    def test_are_left_out_unless_asked_for(self, app: Application, empty: Application) -> None:
        app.endpoints.rotate("orders", secret="open-barley").get()
        for secret in (b"open-sesame", b"open-barley"):
            assert secret not in b"".join(dump(app))
            assert secret in b"".join(dump(app, secrets=True))

        load(empty, dump(app))
        found = empty.endpoints.find("orders").get()
        assert found is not None
        assert found.secret not in (ORDERS.secret, "open-barley")
        assert found.old_secrets == ()
        assert len(found.secret.reveal()) > 20

    def test_in_headers_are_left_out_too(self, app: Application, empty: Application) -> None:
        """Unless they are asked for; everything else is moved as it came, other credentials too.
        One that another endpoint has counts as well: requests are replayed from one to another."""
        app.endpoints.rotate("orders", secret="open-barley").get()
        secret = OTHER.secret.reveal()
        shown = [("X-Thing", f"Bearer {it}") for it in ("open-sesame", "open-barley", secret)]
        kept = [("Authorization", "Basic a"), ("X-Thing", "open-sesame?"), ("x", "a\ud800")]
        query = (":query", "token=open-barley&token=a")
        app.callbacks.push("orders", Callback.new(Request([*shown, *kept, query]), id="1")).get()
        load(empty, dump(app))
        [found] = contents(empty)["orders"]
        hidden = [("X-Thing", "**********")] * 3
        assert found.request.headers == (*hidden, *kept, (":query", "token=**********&token=a"))
        with Application() as third:
            load(third, dump(app, secrets=True))
            assert contents(third) == contents(app)

    @pytest.mark.parametrize(
        "line",
        [
            {"endpoint": {"id": "a", "secret": "open-sesame"}},
            {"endpoint": {"id": "a", "secret": "open-sesame"}, "more": 1},
            {"secret": "open-sesame"},
            {"endpoint": "open-sesame"},
            {"endpoint": {**FIELDS, "secret": "s", "old_secrets": ["open-sesame"]}},
            {"endpoint": {**FIELDS, "secret": "s", "old_secrets": [["open-sesame", -1]]}},
            {"endpoint": {**FIELDS, "secret": "s", "old_secrets": {"open-sesame": 5}}},
        ],
    )
    def test_are_in_no_error(self, empty: Application, line: Any) -> None:
        for lines in ([HEADER, json.dumps(line)], [json.dumps(line)]):
            with pytest.raises(InvalidValue) as caught:
                load(empty, lines)
            assert "open-sesame" not in str(caught.value)


class Unread:
    """A reply that notes when it is read."""

    def __init__(self, reply: Any, read: list[Any]) -> None:
        self._reply = reply
        self._read = read

    def get(self) -> Any:
        self._read.append(self._reply)
        return self._reply.get()


HEADER = json.dumps({"pollin": "dump", "version": 1})
GOOD = {"endpoint": "orders", "id": "c", "phase": "", "created_at": 1, "headers": [], "body": ""}


class TestRefusals:
    @pytest.mark.parametrize(
        ("lines", "told"),
        [
            ([], "the dump: expected a line that says it ends"),
            ([HEADER], "cut off"),
            (["{}"], "line 1 of the dump"),
            ([HEADER.replace("1", "2")], "line 1 of the dump"),
            ([HEADER, "", "[]"], "line 3 of the dump"),
            ([HEADER, "{"], "line 2 of the dump"),
            ([HEADER, b"\xff"], "line 2 of the dump"),
            ([HEADER, "[" * 100_000], "line 2 of the dump"),
            ([HEADER, '{"callback":' * 100_000], "line 2 of the dump"),
            ([HEADER, 5], "line 2 of the dump: expected bytes or str"),
            ([HEADER, '{"other": 1}'], "endpoint, callback or end"),
            ([HEADER, '{"end": {"endpoints": 0, "callbacks": 1}}'], "lines are missing"),
            (
                [HEADER, '{"end": {"endpoints": 0, "callbacks": 0}}', HEADER],
                "nothing after the end",
            ),
        ],
    )
    def test_name_the_line(self, empty: Application, lines: list[Any], told: str) -> None:
        with pytest.raises(InvalidValue) as caught:
            load(empty, lines)
        assert told in str(caught.value)

    @pytest.mark.parametrize(
        "change",
        [
            {"id": 5},
            {"id": ""},
            {"phase": None},
            {"created_at": "now"},
            {"created_at": -1},
            {"headers": 5},
            {"headers": [["a"]]},
            {"body": 5},
            {"body": "\ud800"},
            {"body": None, "body_base64": "="},
            {"value": {"$": 5}},
            {"value": {"$": ["tuple", 5]}},
            {"value": {"$": ["bytes", "?"]}},
            {"value": {"$": ["set", []]}},
            {"value": {"$": ["float", 10**399]}},
            {"created_at": 1 << 63},
            {"not_before": 10**399},
            {"value": {"$": ["dict", [[[], 1]]]}},
            {"endpoint": []},
        ],
    )
    def test_of_fields_store_nothing(self, app: Application, change: Any) -> None:
        fields = {**GOOD, **change}
        if fields["body"] is None:
            del fields["body"]
        with pytest.raises(InvalidValue) as caught:
            load(app, [HEADER, json.dumps({"callback": fields})])
        told = [str(caught.value), *getattr(caught.value, "__notes__", [])]
        assert any("line 2 of the dump" in text for text in told)
        assert contents(app) == {"orders": [], "other": []}

    @pytest.mark.parametrize(
        "change",
        [
            {"ttl": 10**399},
            {"created_at": 10**399},
            {"dedup_for": 10**399},
            {"keep_for": 10**399},
            {"capacity": 10**399},
            {"capacity_bytes": 10**399},
            {"created_at": 1 << 63},
            {"dedup_for": float("nan")},
            {"keep_for": float("inf")},
            {"intake": {"rate": 10**399}},
            {"intake": {"burst": 10**399}},
            {"intake": {"content_types": ["a/" + "b" * 199]}},
            {"secret": "s" * 8, "old_secrets": [["t" * 8, 10**399]]},
            {"phases": ["a", "b", "a"]},
            {"consumes": [["in"]]},
        ],
        ids=lambda change: ascii(change)[:30],
    )
    def test_of_endpoints_create_none(self, empty: Application, change: Any) -> None:
        """Also where a number is so large that no float can be made of it."""
        with pytest.raises(InvalidValue):
            load(empty, [HEADER, json.dumps({"endpoint": {**FIELDS, **change}})])
        assert empty.endpoints.index().get() == []

    @pytest.mark.parametrize(
        ("change", "error"),
        [
            ({"phase": "gone"}, UnknownPhase),
            ({"endpoint": "gone"}, EndpointNotFound),
            ({"body": "x" * 2000}, TooLarge),
        ],
    )
    def test_of_pushes_come_with_the_line(self, change: Any, error: type[Exception]) -> None:
        with Application(endpoints=[ORDERS], settings=Settings(max_bytes=1000)) as app:
            bad = json.dumps({"callback": {**GOOD, **change}})
            good = json.dumps({"callback": GOOD})
            with pytest.raises(error) as caught:
                load(app, [HEADER, good, bad])
            assert "line 3 of the dump" in caught.value.__notes__[0]
            assert [callback.id for callback in contents(app)["orders"]] == ["c"]

    def test_of_several_lines_name_the_first(self, app: Application) -> None:
        """Also if a later one fails before the first has been answered; nothing goes on then."""
        bad = json.dumps({"callback": {**GOOD, "phase": "gone"}})
        good = json.dumps({"callback": GOOD})
        with pytest.raises(UnknownPhase) as caught:
            load(app, [HEADER, bad, bad, good, "garbage"])
        assert "line 2 of the dump" in caught.value.__notes__[0]
        assert [callback.id for callback in contents(app)["orders"]] == ["c"]

    def test_leave_nothing_under_way(self) -> None:
        """Every push has its answer when the error comes, also those behind the one that failed."""
        replies: list[Any] = []
        with Application(endpoints=[ORDERS]) as app:
            push = app.callbacks.push

            def spy(*arguments: Any, **options: Any) -> Any:
                replies.append(push(*arguments, **options))
                # Not asked for yet, as those of a backend that takes its time.
                return Unread(replies[-1], read)

            read: list[Any] = []
            app.callbacks.push = spy  # type: ignore[method-assign]
            bad = json.dumps({"callback": {**GOOD, "phase": "gone"}})
            good = json.dumps({"callback": GOOD})
            with pytest.raises(UnknownPhase):
                load(app, [HEADER, good, bad, bad, good])
        assert read == replies
        assert len(read) == 4

    def test_of_an_application_that_does_not_run_name_the_line(self) -> None:
        lines = [HEADER, json.dumps({"callback": GOOD})]
        with pytest.raises(NotRunning) as caught:
            load(Application(), lines)
        assert "line 2 of the dump" in caught.value.__notes__[0]

    @pytest.mark.parametrize("value", [object(), 10**5000, bytearray(b"x")], ids=type)
    def test_of_values_that_only_memory_takes(self, app: Application, value: Any) -> None:
        app.callbacks.push("orders", Callback.new(value, id="odd")).get()
        with pytest.raises(InvalidValue, match=r"Callback\.request") as caught:
            list(dump(app))
        assert caught.value.__notes__ == ["at callback 'odd' of endpoint 'orders'"]


def test_memory_stays_flat(new_backend: Callable[[], SqliteBackend], tmp_path: Path) -> None:
    """With 48 MiB in the file, neither a dump nor a load holds more than a part of it."""
    body, number = b"x" * 1024 * 1024, 48
    path = tmp_path / "dump.ndjson"
    with Application(new_backend(), endpoints=[ORDERS]) as app:
        for _ in range(number):
            app.callbacks.push("orders", Callback.new(Request([], body))).get()
        with at_most(24 * len(body)), path.open("wb") as file:
            file.writelines(dump(app))
    assert path.stat().st_size > number * len(body)
    with Application(new_backend()) as other, at_most(24 * len(body)), path.open("rb") as file:
        assert load(other, file).queued == number


@contextmanager
def at_most(size: int) -> Iterator[None]:
    """Assert that no more memory than that was in use meanwhile."""
    tracemalloc.start()
    try:
        yield
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < size
