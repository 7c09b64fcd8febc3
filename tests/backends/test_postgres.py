"""The PostgreSQL backend: its URL, its life, and what it says when it cannot."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import traceback
from pathlib import Path
from typing import Any
from urllib.parse import quote

import psycopg
import pytest

from pollin_actors import Application, Callback, Endpoint
from pollin_actors.backends import open_backend
from pollin_actors.backends.postgres import PostgresBackend, link, writer
from pollin_actors.backends.postgres.operations import Operations
from pollin_actors.backends.postgres.writer import Writer
from pollin_actors.errors import BackendUnavailable, InvalidValue, MissingExtra
from pollin_actors.intake import Intake
from pollin_actors.messages import (
    CheckReady,
    ClaimSlice,
    CreateEndpoint,
    DeleteCallback,
    FetchSlice,
    FindEndpoint,
    IndexEndpoints,
    Push,
)
from pollin_actors.otp.simulation import Simulation
from tests.backends.postgres_inbox import WAIT_S, PostgresInbox
from tests.backends.postgres_schema import ask, locked_endpoint, schema_of, wait_for_waiting
from tests.servers import postgres

ROOT = Path(__file__).resolve().parents[2]
PASSWORD = "hunter2hunter2"


class TestUrls:
    @pytest.mark.parametrize(
        "url",
        [
            "postgresql://host/database",
            "postgres://user@host:5433/database?sslmode=require",
            "postgresql:///database?host=/var/run/postgresql&schema=inbox",
            "postgresql://a,b/database?target_session_attrs=read-write&lock_timeout=2.5",
            "PostgreSQL://host?synchronous_commit=off&prepare=off&connect_timeout=3",
        ],
    )
    def test_of_libpq_are_taken(self, url: str) -> None:
        """What libpq understands, with options of ours in between."""
        assert isinstance(open_backend(url), PostgresBackend)

    @pytest.mark.parametrize(
        ("query", "name"),
        [
            ("colour=red", "backend"),
            ("schema=Inbox", "schema"),
            ("schema=pg_inbox", "schema"),
            ("schema=", "schema"),
            (f"schema={'x' * 51}", "schema"),
            ("schema=a%22b", "schema"),
            ("synchronous_commit=maybe", "synchronous_commit"),
            ("lock_timeout=soon", "lock_timeout"),
            ("lock_timeout=0", "lock_timeout"),
            ("lock_timeout=nan", "lock_timeout"),
            ("prepare=yes", "prepare"),
        ],
    )
    def test_with_other_options_are_refused(self, query: str, name: str) -> None:
        """The error names what is wrong."""
        with pytest.raises(InvalidValue) as caught:
            PostgresBackend.from_url(f"postgresql://user:{PASSWORD}@host/database?{query}")
        assert caught.value.name == name
        assert PASSWORD not in str(caught.value)

    @pytest.mark.parametrize(
        "url",
        [
            f"postgresql://user:{PASSWORD}%zz@host/database",
            f"postgresql://user:{PASSWORD}@host:port:9/database",
            f"postgresql://user:{PASSWORD}@[host/database",
            f"postgresql://user:x@{PASSWORD}@host/database",
            f"postgresql://user:{PASSWORD}/x@host/database",
            f"postgresql://user:x?{PASSWORD}@host/database",
            f"postgresql://user:x?{PASSWORD}&y@host/database",
            f"mysql://user:{PASSWORD}@host/database",
        ],
    )
    def test_that_are_wrong_show_no_password(self, url: str) -> None:
        """Neither does what libpq says of them."""
        with pytest.raises(InvalidValue) as caught:
            PostgresBackend.from_url(url)
        assert PASSWORD not in str(caught.value)
        assert caught.value.__cause__ is None

    @pytest.mark.parametrize(
        "options",
        [{"lock_timeout": True}, {"prepare": "on"}, {"schema": 3}, {"synchronous_commit": None}],
    )
    def test_and_arguments_are_checked_alike(self, options: dict[str, Any]) -> None:
        """What the constructor is given may be wrong as well."""
        with pytest.raises(InvalidValue):
            PostgresBackend("postgresql://host", **options)

    def test_are_the_only_way(self) -> None:
        """Something else than a text is refused."""
        with pytest.raises(InvalidValue):
            PostgresBackend(None)  # type: ignore[arg-type]


class TestServers:
    def test_that_are_away_are_unavailable(self, tmp_path: Path) -> None:
        """open() says so, with the cause, and shows no password; so does the handle's repr."""
        backend = PostgresBackend(f"postgresql://user:{PASSWORD}@/database?host={tmp_path}")
        with pytest.raises(BackendUnavailable, match="postgresql") as caught:
            backend.open(time.time_ns)
        assert isinstance(caught.value.__cause__, psycopg.OperationalError)
        shown = f"{caught.value!r} {caught.value} {caught.value.__cause__} {backend!r}"
        assert PASSWORD not in f"{shown} {backend._address!r}"
        with pytest.raises(BackendUnavailable, match="not open"):
            backend.execute(IndexEndpoints())

    def test_that_are_away_show_nothing_in_frames(self, tmp_path: Path) -> None:
        """Some loggers show the variables of all frames of an error, and of its cause."""
        backend = PostgresBackend(f"postgresql://user:{PASSWORD}@/database?host={tmp_path}")
        with pytest.raises(BackendUnavailable) as caught:
            backend.open(time.time_ns)
        error: BaseException | None = caught.value
        frames = 0
        while error is not None:
            for frame, _ in traceback.walk_tb(error.__traceback__):
                frames += 1
                assert PASSWORD not in repr(list(frame.f_locals.values()))
            error = error.__cause__
        assert frames > 4

    def test_that_show_a_row_are_not_repeated(self) -> None:
        """In their details may be a secret: neither the error nor its cause has them."""
        with PostgresInbox() as inbox:
            ask(inbox.url, "ALTER TABLE endpoints ADD CONSTRAINT odd CHECK (id <> 'bad')")
            endpoint = Endpoint.new(["a"], 0, id="bad", secret=PASSWORD)
            with pytest.raises(BackendUnavailable, match='constraint "odd"') as caught:
                inbox.do(CreateEndpoint(endpoint))
            assert PASSWORD not in f"{caught.value!r} {caught.value} {caught.value.__cause__!r}"

    @pytest.mark.parametrize("level", ["repeatable read", "serializable"])
    def test_may_have_another_isolation(self, level: str) -> None:
        """Whoever has waited for an endpoint sees what was pushed there meanwhile, whatever the
        server does by default."""
        option = quote(f"-c default_transaction_isolation={level}".replace("e r", "e\\ r"))
        with PostgresInbox(f"{postgres.new_schema()}&options={option}") as inbox:
            other = inbox.open()
            for backend in inbox.handles:
                inbox.push("warm", backend=backend).get(timeout=WAIT_S)
            with locked_endpoint(inbox.url):
                futures = []
                for phase, backend in zip("ab", inbox.handles, strict=True):
                    callback = Callback.new(b"x", id="x", phase=phase)
                    futures.append(inbox.send(Push("e", callback, trusted=True), backend))
                wait_for_waiting(inbox.url, 2)
            outcomes = sorted([future.get(timeout=WAIT_S).outcome for future in futures])
            assert (outcomes, inbox.ids()) == (["duplicate", "queued"], "warm x")
            assert other is inbox.handles[1]

    def test_that_are_too_old_are_refused(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """The version is looked at before anything is made."""
        monkeypatch.setattr(link, "OLDEST", 99)
        url = postgres.new_schema()
        with pytest.raises(BackendUnavailable, match="99 is the oldest"):
            PostgresBackend(url).open(time.time_ns)
        assert ask(url, "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema_of(url)) == []

    def test_must_hold_every_text(self) -> None:
        """A database of another encoding than UTF-8 is refused."""
        name = f"{schema_of(postgres.new_schema())}_ascii"
        with psycopg.connect(postgres.server(), autocommit=True) as connection:
            create = f"CREATE DATABASE {name} ENCODING 'SQL_ASCII' LC_COLLATE 'C' LC_CTYPE 'C'"
            connection.execute(f"{create} TEMPLATE template0".encode())
            try:
                url = postgres.new_schema()
                with pytest.raises(BackendUnavailable, match="SQL_ASCII"):
                    PostgresBackend(f"{url}&dbname={name}").open(time.time_ns)
            finally:
                connection.execute(f"DROP DATABASE {name}".encode())


class TestHandles:
    def test_need_psycopg(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Without it, the extra that brings it is named."""
        monkeypatch.setitem(sys.modules, "psycopg", None)
        with pytest.raises(MissingExtra, match=r"pollin-actors\[postgres\]"):
            open_backend("postgresql://host")

    def test_import_psycopg_late(self) -> None:
        """Who only imports the package needs no driver."""
        code = "import sys, pollin_actors.backends.postgres; sys.exit('psycopg' in sys.modules)"
        done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=False, timeout=60)
        assert done.returncode == 0

    @pytest.mark.parametrize("asked", ["off", "local", "on"])
    def test_commit_as_they_were_asked_to(self, asked: str) -> None:
        """Each transaction has the setting, whichever way it is sent, and the session has not."""
        with PostgresInbox(synchronous_commit=asked) as inbox:
            schema = schema_of(inbox.url)
            ask(inbox.url, "CREATE TABLE seen (setting text)")
            ask(
                inbox.url,
                f"""CREATE FUNCTION see() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
                INSERT INTO {schema}.seen VALUES (current_setting('synchronous_commit'));
                RETURN NULL; END $$""",
            )
            ask(
                inbox.url,
                """CREATE CONSTRAINT TRIGGER see AFTER INSERT ON history
                DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION see()""",
            )
            inbox.push("slow").get(timeout=WAIT_S)
            inbox.push("quick").get(timeout=WAIT_S)
            inbox.do(DeleteCallback("e", "slow"))
            assert ask(inbox.url, "SELECT setting FROM seen") == [(asked,)] * 3
            ask(inbox.url, "DROP TABLE seen CASCADE")
            ask(inbox.url, "DROP FUNCTION see CASCADE")

    def test_are_a_task_of_a_simulated_run(self) -> None:
        """There is no thread then: what waits is committed in the scheduler's turns."""
        with Simulation(seed=5) as simulation:
            backend = PostgresBackend(postgres.new_schema())
            app = Application(backend, runtime=simulation.runtime)
            with app:
                app.endpoints.create(Endpoint.new(id="orders")).get()
                futures = [app.callbacks.push("orders", Callback.new(b"x")) for _ in range(5)]
                assert [str(future.get().outcome) for future in futures] == ["queued"] * 5
                assert app.callbacks.count("orders").get() == 5
                assert backend._writer is not None
                assert backend._writer._thread is None
                assert backend._announcer is None

    @pytest.mark.parametrize("pause", [False, True])
    def test_never_go_on_in_an_open_transaction(
        self, monkeypatch: pytest.MonkeyPatch, pause: bool
    ) -> None:
        """Whatever has ended the one before: what is answered is committed."""
        monkeypatch.setattr(writer, "FORGET_EVERY", 10**9)
        with PostgresInbox() as inbox:
            for id in ("a", "b"):  # known, and prepared
                inbox.push(id).get(timeout=WAIT_S)
            assert inbox.backend._writer is not None
            reached = threading.Event()

            def interrupted(self: Operations, limit: int) -> None:
                monkeypatch.undo()
                monkeypatch.setattr(writer, "FORGET_EVERY", 10**9)
                reached.set()
                raise KeyboardInterrupt

            monkeypatch.setattr(Operations, "forget", interrupted)
            monkeypatch.setattr(writer, "FORGET_EVERY", 1)
            inbox.do(CheckReady())
            assert reached.wait(WAIT_S)
            at_work = inbox.backend._writer
            while pause and (at_work._begun or at_work._waiting):
                pass
            ring = Writer._ring
            if pause:  # it is who waits that sends, and not the writer

                def ring_for_helpers(self: Writer) -> None:
                    if sys._getframe(1).f_code.co_name != "submit":
                        ring(self)

                monkeypatch.setattr(Writer, "_ring", ring_for_helpers)
            for id in ("d", "e", "f"):
                assert inbox.push(id).get(timeout=WAIT_S).outcome == "queued"
                query = "SELECT count(*) FROM callbacks WHERE id = %s"
                assert ask(inbox.url, query, id) == [(1,)]

    def test_may_be_closed_by_who_is_told(self) -> None:
        """In a future's callback, on the thread that works: what was sent before is answered."""
        with PostgresInbox() as inbox:
            first = inbox.push("a")
            first.add_done_callback(lambda _: inbox.backend.close())
            second = inbox.push("b")
            assert first.get(timeout=WAIT_S).outcome == "queued"
            try:
                second.get(timeout=WAIT_S)
            except BackendUnavailable:
                assert second.done()
            inbox.backend.close()

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
    def test_that_are_forked_are_refused(self) -> None:
        """A child cannot use its parent's handle, and does the parent's connections no harm."""
        code = (
            "import os, sys, time\n"
            "from pollin_actors.backends.postgres import PostgresBackend\n"
            "from pollin_actors.messages import IndexEndpoints\n"
            "from pollin_actors.errors import ForkedProcess\n"
            "backend = PostgresBackend(sys.argv[1])\n"
            "backend.announce_to(lambda endpoint_id, revised: None)\n"
            "backend.open(time.time_ns)\n"
            "backend.execute(IndexEndpoints()).get()\n"
            "if os.fork() == 0:\n"
            "    try:\n"
            "        backend.execute(IndexEndpoints())\n"
            "    except ForkedProcess:\n"
            "        backend.close()\n"
            "        own = PostgresBackend(sys.argv[1])\n"
            "        own.open(time.time_ns)\n"
            "        own.execute(IndexEndpoints()).get()\n"
            "        own.close()\n"
            "        sys.exit(3)\n"
            "    sys.exit(4)\n"
            "assert os.waitstatus_to_exitcode(os.wait()[1]) == 3\n"
            "process = backend._writer._link.connection.info.backend_pid\n"
            "backend.execute(IndexEndpoints()).get()\n"
            "assert backend._writer._link.connection.info.backend_pid == process\n"
            "backend.close()\n"
        )
        done = subprocess.run(
            [sys.executable, "-c", code, postgres.new_schema()],
            cwd=ROOT,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == 0, done.stderr


class TestTexts:
    def test_that_cannot_be_stored_are_not_found(self) -> None:
        """NUL and lone surrogates are no errors of the server, but nothing that is there."""
        with PostgresInbox() as inbox:
            for text in ("\0", "\ud800"):
                assert inbox.do(FindEndpoint(text)) is None
                assert inbox.do(DeleteCallback("e", text)) is False
                assert inbox.do(ClaimSlice("e", None)).claims == []

    @pytest.mark.parametrize(
        "text", ['"', "\\", "{}", ",", "NULL", "null", "'", "%s", "ünï 中", " "]
    )
    def test_of_every_kind_go_in_and_out(self, text: str) -> None:
        """Nothing in them is taken for something of the statement's, one by one or together."""
        with PostgresInbox() as inbox:
            # A scheme that can have any secret.
            intake = Intake("none")
            endpoint = Endpoint.new([text], 0, id="x", secret=f"\0{text}", intake=intake)
            assert inbox.do(CreateEndpoint(endpoint)) == endpoint
            assert inbox.do(FindEndpoint("x")) == endpoint
            callbacks = [Callback.new(text, id=text), Callback.new(text, fence=text, phase=text)]
            futures = [inbox.send(Push("x", item, f"\0{text}")) for item in callbacks]
            for future, callback in zip(futures, callbacks, strict=True):
                assert future.get(timeout=WAIT_S).callback == callback.with_phase(text)
            assert inbox.do(FetchSlice("x", text)) == [it.with_phase(text) for it in callbacks]
            [claim, _] = inbox.do(ClaimSlice("x", text, 2, by=text)).claims
            assert claim.key == text
