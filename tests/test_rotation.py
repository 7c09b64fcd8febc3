"""Rotating the secret of an endpoint: through the facade, and what a restart leaves of it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import pytest
from structlog.testing import capture_logs

from pollin_actors import (
    Application,
    Callback,
    Endpoint,
    EndpointConflict,
    EndpointNotFound,
    InvalidValue,
    Secret,
    WrongSecret,
)
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.messages import FindEndpoint, RotateSecret
from pollin_actors.otp import Simulation
from pollin_actors.resources import Intake
from pollin_actors.rotation import DEFAULT_OVERLAP_S
from pollin_actors.signatures import Scheme

SECOND = 10**9


@dataclass(frozen=True, slots=True)
class Numbered(Scheme):
    """A scheme whose secrets are numbers: it takes no others, and makes only such."""

    name: ClassVar[str] = "numbered"

    def check_secret(self, secret: Secret) -> None:
        if not secret.reveal().isdigit():
            raise InvalidValue("secret", "digits", "something else")

    def generate_secret(self) -> Secret:
        return Secret("12345")

    def text(self) -> str:
        return self.name


@pytest.fixture(params=["memory", "sqlite"])
def app(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Application]:
    """With the endpoint ``a``, whose secret is ``s``."""
    sqlite = request.param == "sqlite"
    backend = SqliteBackend(tmp_path / "inbox.db", durability="normal") if sqlite else None
    with Application(backend, endpoints=[Endpoint.new(id="a", secret="s")]) as running:
        yield running


def taken(app: Application, *secrets: str | Secret) -> list[bool]:
    """Whether a push with each of these is taken."""
    found = []
    for secret in secrets:
        try:
            app.callbacks.push("a", Callback.new(b"x"), secret=secret).get()
        except WrongSecret:
            found.append(False)
        else:
            found.append(True)
    return found


def test_both_secrets_are_valid_for_a_while(app: Application) -> None:
    """For a day unless it is said, by the clock of the application."""
    before = app.runtime.clock.time_ns()
    changed = app.endpoints.rotate("a", secret="t").get()
    after = app.runtime.clock.time_ns()
    assert changed == app.endpoints.find("a").get()
    assert changed.secret == "t"
    [old] = changed.old_secrets
    overlap = round(DEFAULT_OVERLAP_S * 1e9)
    assert before + overlap <= old.until <= after + overlap
    assert taken(app, "s", "t", "u") == [True, True, False]

    assert app.endpoints.rotate("a", secret=Secret("u")).get().secret == "u"
    assert taken(app, "s", "t", "u") == [True, True, True]


def test_no_overlap_is_none_at_all(app: Application) -> None:
    """Who has to be rid of a secret is: also of those that an overlap before had left valid."""
    app.endpoints.rotate("a", secret="t").get()
    assert app.endpoints.rotate("a", secret="u", overlap=0).get().secret == "u"
    assert taken(app, "s", "t", "u") == [False, False, True]


def test_the_present_secret_without_overlap_ends_the_old_ones(app: Application) -> None:
    app.endpoints.rotate("a", secret="t").get()
    app.endpoints.rotate("a", secret="t", overlap=0).get()
    assert taken(app, "s", "t") == [False, True]


def test_an_update_does_not_undo_a_rotation(app: Application) -> None:
    """Who has read the endpoint before is refused, and nothing is changed."""
    found = app.endpoints.find("a").get()
    assert found is not None
    app.endpoints.rotate("a", secret="t", overlap=0).get()
    with pytest.raises(EndpointConflict, match="'a' was changed by somebody else"):
        app.endpoints.update(found.replace(ttl=5), expect=found).get()
    assert taken(app, "s", "t") == [False, True]
    with pytest.raises(InvalidValue, match="an Endpoint"):
        app.endpoints.update(found, expect="a").get()  # type: ignore[arg-type]


def test_a_secret_is_generated(app: Application) -> None:
    changed = app.endpoints.rotate("a").get()
    assert len(changed.secret.reveal()) > 20
    assert taken(app, "s", changed.secret) == [True, True]
    again = asyncio.run(_awaited(app))
    assert again.secret not in (changed.secret, "s")


async def _awaited(app: Application) -> Endpoint:
    return await app.endpoints.rotate("a", overlap=1)


@pytest.fixture
def simulation() -> Iterator[Simulation]:
    with Simulation(0) as running:
        yield running


def test_an_overlap_ends_by_itself(simulation: Simulation) -> None:
    endpoint = Endpoint.new(id="a", secret="s")
    with Application(endpoints=[endpoint], runtime=simulation.runtime) as app:
        app.endpoints.rotate("a", secret="t", overlap=1.5).get()
        assert taken(app, "s", "t") == [True, True]
        simulation.advance(1.5)
        assert taken(app, "s", "t") == [False, True]


@pytest.mark.parametrize("secret", [None, "t"])
def test_an_unknown_endpoint_is_an_error(app: Application, secret: str | None) -> None:
    with pytest.raises(EndpointNotFound):
        app.endpoints.rotate("b", secret=secret).get()


@pytest.mark.parametrize(
    "overlap", [-1, float("nan"), float("inf"), "1", True, None, 1e300, 10**400]
)
def test_an_overlap_must_be_seconds(app: Application, overlap: Any) -> None:
    with pytest.raises(InvalidValue, match=r"overlap: expected seconds"):
        app.endpoints.rotate("a", overlap=overlap).get()


@pytest.mark.parametrize("secret", ["", 5, b"hunter2", "\ud800"])
def test_a_secret_must_be_one(app: Application, secret: Any) -> None:
    with pytest.raises(InvalidValue, match="Secret: expected") as caught:
        app.endpoints.rotate("a", secret=secret).get()
    assert "hunter2" not in str(caught.value)
    assert taken(app, "s") == [True]


def test_the_scheme_says_which_secrets_there_are() -> None:
    """One that it cannot have is refused and changes nothing; it makes one of its own form."""
    endpoint = Endpoint.new(id="a", secret="7", intake=Intake(Numbered()))
    with Application(endpoints=[endpoint]) as app:
        with pytest.raises(InvalidValue, match="secret: expected digits") as caught:
            app.endpoints.rotate("a", secret="hunter2").get()
        assert "hunter2" not in str(caught.value)
        assert app.endpoints.find("a").get() == endpoint
        assert app.endpoints.rotate("a").get().secret == "12345"


class Rotated(MemoryBackend):
    """Somebody else rotates first, just after the endpoint was looked at."""

    def execute(self, message: Any) -> Any:
        reply = super().execute(message)
        if type(message) is FindEndpoint and reply is not None:
            super().execute(RotateSecret("a", Secret("other"), 2**62))
        return reply


class RotatedOnce(MemoryBackend):
    """The same, once, and without an overlap."""

    armed = False

    def execute(self, message: Any) -> Any:
        reply = super().execute(message)
        if type(message) is FindEndpoint and self.armed:
            self.armed = False
            super().execute(RotateSecret("a", Secret("other"), 0))
        return reply


class Restless(MemoryBackend):
    """Somebody else rotates whenever the endpoint is looked at."""

    armed = False

    def execute(self, message: Any) -> Any:
        reply = super().execute(message)
        if type(message) is FindEndpoint and self.armed and reply is not None:
            super().execute(RotateSecret("a", Secret(reply.secret.reveal() + "x"), 0))
        return reply


def test_two_who_rotate_at_once_leave_three_secrets() -> None:
    """Nobody's secret is lost: the change is one step, whatever was seen before."""
    with Application(Rotated(), endpoints=[Endpoint.new(id="a", secret="s")]) as app:
        changed = app.endpoints.rotate("a").get()
        assert [old.secret.reveal() for old in changed.old_secrets] == ["other", "s"]
        assert taken(app, "s", "other", changed.secret) == [True] * 3


def test_who_watches_an_endpoint_is_told() -> None:
    """As of an update: what was known of its secrets is to be read anew."""
    with Application(endpoints=[Endpoint.new(id="a", secret="s")]) as app:
        told: list[str] = []
        app._changes.watch("a", lambda: told.append("a"))
        app.endpoints.rotate("a", secret="t").get()
        assert told


class TestDeclared:
    """What an application declares takes the place of what is stored."""

    def test_keeps_old_secrets_that_are_valid(self) -> None:
        """A deployment with the new secret does not end the overlap."""
        backend = MemoryBackend()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="s")]) as app:
            app.endpoints.rotate("a", secret="t", overlap=60).get()
            app.endpoints.rotate("a", secret="u", overlap=60).get()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="u")]) as app:
            assert taken(app, "s", "t", "u") == [True, True, True]

    def test_has_no_overlap_with_the_secret_that_was_stored(self) -> None:
        """A new secret that is declared wins at once; an overlap from before goes on."""
        backend = MemoryBackend()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="s")]) as app:
            app.endpoints.rotate("a", secret="t", overlap=60).get()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="u")]) as app:
            assert taken(app, "s", "t", "u") == [True, False, True]

    @pytest.mark.parametrize("overlap", [0, 60])
    def test_does_not_undo_a_rotation(self, overlap: float) -> None:
        """A restart with the declaration from before it leaves the new secret, and says so; what
        was withdrawn, perhaps because it leaked, stays so."""
        backend, declared = MemoryBackend(), [Endpoint.new(id="a", secret="s")]
        with Application(backend, endpoints=declared) as app:
            app.endpoints.rotate("a", secret="t", overlap=overlap).get()
        for _ in range(2):
            with capture_logs() as logs, Application(backend, endpoints=declared) as app:
                assert taken(app, "s", "t") == [overlap > 0, True]
            [entry] = [it for it in logs if it["event"] == "endpoint.declared_secret_ignored"]
            assert entry["endpoint"] == "a"
            assert "'s'" not in str(logs)

    def test_is_that_of_the_latest_declaration(self) -> None:
        """While a deployment goes on, a worker with the old declaration does not go back."""
        backend = MemoryBackend()
        for declared, valid in (("s", "s"), ("t", "t"), ("s", "t"), ("t", "t"), ("u", "u")):
            endpoint = Endpoint.new(id="a", secret=declared)
            with Application(backend, endpoints=[endpoint]) as app:
                assert [it for it in "stu" if taken(app, it) == [True]] == [valid]

    def test_that_is_generated_leaves_the_stored_one(self) -> None:
        """Or each start, of each of several processes, would shut out all senders."""
        backend = MemoryBackend()
        with Application(backend, endpoints=[Endpoint.new(id="a")]) as app:
            first = app.endpoints.find("a").get()
            assert first is not None
        with (
            capture_logs() as logs,
            Application(backend, endpoints=[Endpoint.new(id="a", ttl=7)]) as app,
        ):
            found = app.endpoints.find("a").get()
            assert found is not None
            assert (found.ttl, found.secret, found.old_secrets) == (7, first.secret, ())
        assert "endpoint.declared_secret_ignored" not in str(logs)

    def test_takes_the_declared_secret_where_the_scheme_is_another(self) -> None:
        """The stored one may be none that it can have."""
        backend = MemoryBackend()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="7")]) as app:
            app.endpoints.rotate("a", secret="seven", overlap=0).get()
        endpoint = Endpoint.new(id="a", secret="7", intake=Intake(Numbered()))
        with Application(backend, endpoints=[endpoint]) as app:
            assert taken(app, "7", "seven") == [True, False]

    def test_waits_for_who_changes_it_at_the_same_time(self) -> None:
        """A rotation between the look and the update is not undone."""
        backend = RotatedOnce()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="s")]):
            pass
        backend.armed = True
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="s", ttl=7)]) as app:
            assert taken(app, "s", "other") == [False, True]
            found = app.endpoints.find("a").get()
            assert found is not None
            assert found.ttl == 7

    def test_gives_up_where_others_change_it_all_the_time(self) -> None:
        """The start fails and says why, instead of going on for ever."""
        backend = Restless()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="s")]):
            pass
        backend.armed = True
        app = Application(backend, endpoints=[Endpoint.new(id="a", secret="s")])
        with pytest.raises(EndpointConflict):
            app.start()

    def test_with_old_secrets_of_its_own_has_those(self) -> None:
        backend = MemoryBackend()
        with Application(backend, endpoints=[Endpoint.new(id="a", secret="s")]) as app:
            app.endpoints.rotate("a", secret="t", overlap=60).get()
            now = app.runtime.clock.time_ns()
        declared = Endpoint.new(id="a", secret="o").rotated(Secret("t"), now, now + 60 * SECOND)
        with Application(backend, endpoints=[declared]) as app:
            assert taken(app, "s", "o", "t") == [False, True, True]
