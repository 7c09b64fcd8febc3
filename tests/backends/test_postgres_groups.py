"""What waits is committed as one transaction: order, refusals, and failures of one among many."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from pollin_actors.backends.postgres import PostgresBackend, writer
from pollin_actors.errors import (
    BackendUnavailable,
    CallbackNotFound,
    ClaimLost,
    CursorConflict,
    EndpointNotFound,
    Full,
    WrongSecret,
)
from pollin_actors.messages import (
    Ack,
    ClaimSlice,
    Count,
    CreateEndpoint,
    DeleteEndpoint,
    Extend,
    Fetch,
    FindCursor,
    HistoryPage,
    MoveCursor,
    Nack,
    Pop,
    Push,
    Release,
    RotateSecret,
    Sweep,
    UpdateEndpoint,
    UpdatePhase,
)
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.resources import Callback, Endpoint, PushResult, Request, Secret
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import ask, locked_endpoint, wait_for_waiting
from tests.servers import postgres


@pytest.fixture
def inbox() -> Iterator[PostgresInbox]:
    with PostgresInbox() as inbox:
        yield inbox


def occupy(inbox: PostgresInbox) -> ReplyFuture[object]:
    """Have the writer wait for an endpoint that somebody holds: what comes now comes together."""
    waiting = inbox.send(UpdatePhase("e", "nobody", "a"))
    wait_for_waiting(inbox.url)
    return waiting


def told(future: ReplyFuture[PushResult]) -> str:
    return str(future.get(timeout=WAIT_S).outcome)


class TestGroups:
    @pytest.mark.parametrize("known", [False, True])
    def test_are_one_transaction(self, inbox: PostgresInbox, known: bool) -> None:
        """A hundred pushes that wait take effect together, whether the endpoint is known or not."""
        if known:
            inbox.push("first").get(timeout=WAIT_S)
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            futures = [inbox.push(f"c{number}") for number in range(100)]
        with pytest.raises(CallbackNotFound):
            occupied.get(timeout=WAIT_S)
        assert {told(future) for future in futures} == {"queued"}
        query = "SELECT count(DISTINCT xmin::text), count(*) FROM callbacks WHERE id <> 'first'"
        assert ask(inbox.url, query) == [(1, 100)]
        expected = [f"c{number}" for number in range(100)]
        assert inbox.ids().split() == (["first"] if known else []) + expected

    def test_keep_the_order_of_what_is_sent(self, inbox: PostgresInbox) -> None:
        """Each message of a group finds what those before it have done."""
        inbox.push("warm").get(timeout=WAIT_S)
        inbox.do(Pop("e"))
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            one = inbox.push("one")
            popped = inbox.send(Pop("e"))
            again = inbox.push("one")
            two, three = inbox.push("two"), inbox.push("three")
            claimed = inbox.send(ClaimSlice("e", None, 1))
            count = inbox.send(Count("e"))
            moved = inbox.send(UpdatePhase("e", "three", "b"))
            last = inbox.send(Fetch("e", "three"))
        with pytest.raises(CallbackNotFound):
            occupied.get(timeout=WAIT_S)
        assert [told(it) for it in (one, again, two, three)] == [
            "queued",
            "duplicate",
            "queued",
            "queued",
        ]
        assert popped.get(timeout=WAIT_S).id == "one"
        assert [claim.key for claim in claimed.get(timeout=WAIT_S).claims] == ["two"]
        assert count.get(timeout=WAIT_S) == 2
        assert moved.get(timeout=WAIT_S).phase == last.get(timeout=WAIT_S).phase == "b"

    def test_of_claims_go_at_once(self, inbox: PostgresInbox) -> None:
        """Acknowledgements that wait are one statement, and each is answered for itself."""
        for number in range(8):
            inbox.push(f"c{number}").get(timeout=WAIT_S)
        claims = inbox.do(ClaimSlice("e", None, 8)).claims
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            good = [inbox.send(Ack("e", claim.key, claim.token)) for claim in claims[:3]]
            twice = inbox.send(Ack("e", claims[0].key, claims[0].token))
            wrong = inbox.send(Ack("e", claims[1].key, "1-nothing"))
            on = inbox.send(Ack("e", claims[3].key, claims[3].token, "b"))
            thrown = inbox.send(Ack("e", claims[4].key, claims[4].token, None, True, "why"))
            back = inbox.send(Nack("e", claims[5].key, claims[5].token, 0, "why"))
            longer = inbox.send(Extend("e", claims[6].key, claims[6].token, 99))
            given = inbox.send(Release("e", claims[7].key, claims[7].token))
        with pytest.raises(CallbackNotFound):
            occupied.get(timeout=WAIT_S)
        for future in (*good, on, thrown, back, given):
            assert future.get(timeout=WAIT_S) is None
        assert longer.get(timeout=WAIT_S) > claims[6].until
        for future in (twice, wrong):
            with pytest.raises(ClaimLost):
                future.get(timeout=WAIT_S)
        assert inbox.ids() == "c3 c5 c6 c7"
        kinds = [str(record.kind) for record in inbox.do(HistoryPage("e", 0, 100)).records[16:]]
        expected = "acknowledged acknowledged acknowledged acknowledged discarded failed released"
        assert " ".join(kinds) == expected

    def test_hold_what_is_large(self, inbox: PostgresInbox) -> None:
        """Bodies of several megabytes among small ones, with headers and without."""
        requests = [
            Request([("a", "b")], b"\0\xff" * 1_500_000),
            b"",
            {"a": [1, "ü"]},
            Request([], b""),
            b"x" * 3_000_000,
            Request([("c", "d" * 100)], b"y"),
        ]
        callbacks = [Callback.new(it, id=f"c{n}") for n, it in enumerate(requests)]
        inbox.push("warm").get(timeout=WAIT_S)
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            futures = [inbox.send(Push("e", callback, "s")) for callback in callbacks]
        with pytest.raises(CallbackNotFound):
            occupied.get(timeout=WAIT_S)
        assert [told(future) for future in futures] == ["queued"] * 6
        found = [inbox.do(Fetch("e", callback.id)).request for callback in callbacks]
        assert found == requests

    def test_may_have_a_sweep_in_between(self, inbox: PostgresInbox) -> None:
        """It has a transaction of its own, in its place."""
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            first = inbox.push("a")
            swept = inbox.send(Sweep())
            last = inbox.push("b")
        with pytest.raises(CallbackNotFound):
            occupied.get(timeout=WAIT_S)
        assert (told(first), swept.get(timeout=WAIT_S), told(last)) == ("queued", 0, "queued")


class TestRefusals:
    def test_do_not_touch_the_others(self, inbox: PostgresInbox) -> None:
        """Of a group, what may be stored is stored."""
        inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id="full", capacity=1)))
        inbox.do(Push("full", Callback.new(b"x"), trusted=True))
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            good = inbox.push("a")
            wrong = inbox.send(Push("e", Callback.new(b"x"), "no"))
            nowhere = inbox.push("b", "nowhere")
            full = inbox.push("c", "full")
            orphan = inbox.send(Push("e", Callback.new(b"x", parent="none"), "s"))
            odd = inbox.send(Pop(["e"]))  # type: ignore[arg-type]
            moved = inbox.send(MoveCursor("e", "x", 5, 0, (Callback.new(b"x", id="m"),)))
            half = (Callback.new(b"x", id="h"), Callback.new(b"x", parent="none"))
            undone = inbox.send(MoveCursor("e", "y", 5, 0, half))
            late = inbox.send(MoveCursor("e", "x", 6, 0))
            last = inbox.push("z")
        for future, error in (
            (occupied, CallbackNotFound),
            (wrong, WrongSecret),
            (nowhere, EndpointNotFound),
            (full, Full),
            (orphan, CallbackNotFound),
            (odd, ValueError),
            (undone, CallbackNotFound),
            (late, CursorConflict),
        ):
            with pytest.raises(error):
                future.get(timeout=WAIT_S)
        assert (told(good), told(last)) == ("queued", "queued")
        assert [str(result.outcome) for result in moved.get(timeout=WAIT_S)] == ["queued"]
        assert inbox.ids() == "a m z"
        assert (inbox.do(FindCursor("e", "x")), inbox.do(FindCursor("e", "y"))) == (5, 0)

    def test_of_the_server_are_for_one_only(self, inbox: PostgresInbox) -> None:
        """What the server does not take fails for itself, with the cause; the rest is stored."""
        ask(inbox.url, "ALTER TABLE callbacks ADD CONSTRAINT odd CHECK (id <> 'bad')")
        with locked_endpoint(inbox.url):
            occupied = occupy(inbox)
            futures = [inbox.push(id) for id in ("a", "bad", "b")]
            count = inbox.send(Count("e"))
        with pytest.raises(CallbackNotFound):
            occupied.get(timeout=WAIT_S)
        with pytest.raises(BackendUnavailable, match="odd") as caught:
            futures[1].get(timeout=WAIT_S)
        assert caught.value.__cause__ is not None
        assert (told(futures[0]), told(futures[2])) == ("queued", "queued")
        assert count.get(timeout=WAIT_S) == 2

    def test_follow_what_others_have_changed(self, inbox: PostgresInbox) -> None:
        """What a handle remembers of an endpoint lets nothing through, and refuses nothing."""
        other = inbox.open()
        inbox.push("warm").get(timeout=WAIT_S)
        inbox.do(RotateSecret("e", Secret("new"), 0), other)
        with pytest.raises(WrongSecret):
            inbox.do(Push("e", Callback.new(b"x"), "s"))
        assert inbox.do(Push("e", Callback.new(b"x", id="a"), "new")).outcome == "queued"
        inbox.do(UpdateEndpoint(Endpoint.new(["c"], 0, id="e", secret="third")), other)
        assert inbox.do(Push("e", Callback.new(b"x", id="b"), "third")).callback.phase == "c"
        inbox.do(DeleteEndpoint("e"), other)
        with pytest.raises(EndpointNotFound):
            inbox.push("c").get(timeout=WAIT_S)
        with pytest.raises(EndpointNotFound):
            inbox.do(Pop("e"))
        inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id="e", secret="s")), other)
        assert told(inbox.push("d")) == "queued"
        assert inbox.ids() == "d"

    def test_while_they_wait_too(self, inbox: PostgresInbox) -> None:
        """A push that waits for a rotation knows the new secret when its turn comes."""
        other = inbox.open()
        inbox.push("warm").get(timeout=WAIT_S)
        with locked_endpoint(inbox.url):
            rotated = inbox.send(RotateSecret("e", Secret("new"), 0), other)
            wait_for_waiting(inbox.url)
            old = inbox.send(Push("e", Callback.new(b"x", id="old"), "s"))
            wait_for_waiting(inbox.url, 2)
        assert rotated.get(timeout=WAIT_S).secret == Secret("new")
        with pytest.raises(WrongSecret):
            old.get(timeout=WAIT_S)
        assert inbox.ids() == "warm"


class TestLocks:
    def test_are_waited_for_only_so_long(self) -> None:
        """Whoever holds an endpoint holds up that one: others go on, and the order stays."""
        with PostgresInbox(lock_timeout=0.3) as inbox:
            inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id="other")))
            inbox.push("warm").get(timeout=WAIT_S)
            with locked_endpoint(inbox.url):
                stuck = inbox.push("x")
                wait_for_waiting(inbox.url)
                rest = [inbox.push("y"), inbox.push("a", "other"), inbox.push("z")]
                rest.append(inbox.push("b", "other"))
                for future in (stuck, rest[0], rest[2]):
                    with pytest.raises(BackendUnavailable, match="another node holds"):
                        future.get(timeout=WAIT_S)
                assert (told(rest[1]), told(rest[3])) == ("queued", "queued")
            assert told(inbox.push("x")) == "queued"
            assert (inbox.ids(), inbox.ids("other")) == ("warm x", "a b")

    def test_end_with_the_time_that_a_statement_may_take(self) -> None:
        """If the server gives it less time than we would wait, the others go on as well."""
        option = "&options=-c%20statement_timeout%3D300"
        with PostgresInbox(f"{postgres.new_schema()}{option}") as inbox:
            inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id="other")))
            inbox.push("warm").get(timeout=WAIT_S)
            with locked_endpoint(inbox.url):
                stuck = inbox.push("x")
                wait_for_waiting(inbox.url)
                rest = [inbox.push(id) for id in ("y", "z", "zz")]
                other = inbox.push("a", "other")
                for future in (stuck, *rest):
                    with pytest.raises(BackendUnavailable, match="statement_timeout"):
                        future.get(timeout=WAIT_S)
                assert told(other) == "queued"
            assert told(inbox.push("x")) == "queued"
            assert (inbox.ids(), inbox.ids("other")) == ("warm x", "a")

    def test_are_not_blamed_for_one_that_takes_long(self) -> None:
        """Of a group, only what takes too long fails, also of the same endpoint."""
        option = "&options=-c%20statement_timeout%3D300"
        with PostgresInbox(f"{postgres.new_schema()}{option}") as inbox:
            ask(
                inbox.url,
                """CREATE FUNCTION idle() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                PERFORM pg_sleep(CASE NEW.id WHEN 'slow' THEN 60 ELSE 0 END);
                RETURN NEW; END $$""",
            )
            ask(
                inbox.url,
                """CREATE TRIGGER idle BEFORE INSERT ON callbacks
                FOR EACH ROW EXECUTE FUNCTION idle()""",
            )
            inbox.push("warm").get(timeout=WAIT_S)
            with locked_endpoint(inbox.url):
                occupied = occupy(inbox)
                futures = [inbox.push(id) for id in ("a", "slow", "b")]
            with pytest.raises((CallbackNotFound, BackendUnavailable)):
                occupied.get(timeout=WAIT_S)
            with pytest.raises(BackendUnavailable, match="statement_timeout"):
                futures[1].get(timeout=WAIT_S)
            assert (told(futures[0]), told(futures[2])) == ("queued", "queued")
            assert inbox.ids() == "warm a b"
            ask(inbox.url, "DROP FUNCTION idle CASCADE")

    def test_of_several_endpoints_make_no_circle(self, inbox: PostgresInbox) -> None:
        """Two handles whose groups touch the same endpoints the other way round get through."""
        other = inbox.open()
        for id in ("f", "g"):
            inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id=id)))

        def send(backend: PostgresBackend, ids: str, turn: int) -> list[ReplyFuture[PushResult]]:
            return [
                inbox.push(f"{ids}{turn}{number}", id, backend) for number, id in enumerate(ids)
            ]

        futures = []
        for turn in range(30):
            futures += send(inbox.backend, "efgfe", turn)
            futures += send(other, "gfefg", turn)
        assert {told(future) for future in futures} == {"queued"}


def test_what_is_due_is_forgotten_without_sweeps(
    inbox: PostgresInbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As pushes come, rows go that nobody needs any more, or they would pile up between sweeps."""
    monkeypatch.setattr(writer, "FORGET_EVERY", 4)
    inbox.do(CreateEndpoint(Endpoint.new(["a"], 0, id="brief", dedup_for=0, keep_for=0)))
    for number in range(40):
        inbox.push(f"c{number}", "brief").get(timeout=WAIT_S)
        assert inbox.do(Pop("brief")).id == f"c{number}"
    settled = inbox.backend
    settled.close()
    [(left,)] = ask(inbox.url, "SELECT count(*) FROM callbacks")
    assert left <= 16
    settled.open(time.time_ns)
