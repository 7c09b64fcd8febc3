"""What is particular to the backend on Valkey: URLs, what it finds at the server, its store."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path
from queue import SimpleQueue
from typing import Any

import pytest
from structlog.testing import capture_logs

from pollin_actors import Application
from pollin_actors.backends import open_backend
from pollin_actors.backends.valkey import ValkeyBackend
from pollin_actors.backends.valkey.address import SCHEMES, parse
from pollin_actors.errors import (
    BackendUnavailable,
    EndpointExists,
    InvalidValue,
    MissingExtra,
)
from pollin_actors.messages import (
    CheckReady,
    ClaimSlice,
    Consume,
    Count,
    CreateEndpoint,
    DeleteCallback,
    DeleteEndpoint,
    Fetch,
    FetchReverse,
    FetchSlice,
    History,
    IndexEndpoints,
    Pop,
    PopSlice,
    Push,
    Reset,
    Stats,
    Sweep,
    UpdatePhase,
)
from pollin_actors.otp.simulation import Simulation
from pollin_actors.records import MAX_REPEATS
from pollin_actors.resources import Callback, Endpoint, Secret
from tests.backends.valkey_inbox import WAIT_S, Inbox
from tests.backends.valkey_store import client_of
from tests.servers.valkey import ALWAYS, Server, new_url

ROOT = Path(__file__).resolve().parents[2]
SECOND = 10**9
PASSWORD = "open-sesame"


@pytest.fixture
def inbox() -> Iterator[Inbox]:
    with Inbox(new_url()) as inbox:
        yield inbox


@pytest.fixture
def server() -> Iterator[Server]:
    """A server that a test may do with as it likes."""
    server = Server()
    yield server
    server.remove()


def prefix_of(inbox: Inbox) -> str:
    return inbox.url.rpartition("prefix=")[2]


class TestUrls:
    @pytest.mark.parametrize(
        ("url", "label", "expected"),
        [
            ("valkey://", "localhost:6379", {"host": "localhost", "port": 6379}),
            ("redis://h:1/3", "h:1/3", {"host": "h", "port": 1, "db": 3}),
            (
                "valkey://u%40:p%2F@h",
                "h:6379",
                {"host": "h", "port": 6379, "username": "u@", "password": "p/"},
            ),
            ("VALKEY://[::1]:5?db=2", "[::1]:5/2", {"host": "::1", "port": 5, "db": 2}),
            ("valkey+unix:///a%20b/s?db=1", "/a b/s/1", {"path": "/a b/s", "db": 1}),
            ("redis+unix://:secret@/s", "/s", {"path": "/s", "password": "secret"}),
            (
                "valkeys://h?ssl_ca_certs=/ca.pem&ssl_check_hostname=false",
                "h:6379",
                {"host": "h", "port": 6379, "ssl_ca_certs": "/ca.pem", "ssl_check_hostname": False},
            ),
        ],
    )
    def test_that_are_read(self, url: str, label: str, expected: dict[str, Any]) -> None:
        """Hosts, ports, databases, names, passwords, sockets, and how TLS is done."""
        address = parse(url)
        assert (address.label, address.connection) == (label, expected)

    def test_options(self) -> None:
        """The prefix, the time-out and whether it is a cluster."""
        address = parse("valkey://h?prefix=in%20box&timeout=0.5&cluster=true")
        assert (address.prefix, address.timeout, address.cluster) == ("in box", 0.5, True)
        plain = parse("valkey://h")
        assert (plain.prefix, plain.timeout, plain.cluster) == ("pollin", 5.0, None)

    @pytest.mark.parametrize(
        "url",
        [
            "valkey:/h",
            "http://h",
            f"valkey://:{PASSWORD}@h:port",
            f"valkey://:{PASSWORD}@[h",
            f"valkey://:{PASSWORD}@h/0?colour=red",
            f"valkey://:{PASSWORD}@h/name",
            # Passwords with a question mark or number sign that is not encoded.
            f"valkey://:1?{PASSWORD}@h",
            f"valkey://u:1#{PASSWORD}@h",
            "valkey://h?ssl_ca_certs=/ca.pem",
            "valkey+unix://host/path",
            "valkey+unix://",
            *(f"valkey://h?timeout={value}" for value in ("0", "-1", "nan", "x", "1e9")),
            *(f"valkey://h?prefix={value}" for value in ("", "%7B", "a%7Db", "%00", "x" * 101)),
            "valkey://h?cluster=perhaps",
            "valkey://h?db=-1",
        ],
    )
    def test_that_are_refused(self, url: str) -> None:
        """What is malformed or unknown is InvalidValue; no password is in its text."""
        with pytest.raises(InvalidValue) as caught:
            ValkeyBackend.from_url(url)
        assert PASSWORD not in f"{caught.value!r} {caught.value.__cause__!r}"

    @pytest.mark.parametrize("scheme", SCHEMES)
    def test_schemes_are_known(self, scheme: str) -> None:
        """Each scheme leads to this backend, without the client; its repr has no password."""
        path = "/path" if "unix" in scheme else "h/1"
        backend = open_backend(f"{scheme}://:{PASSWORD}@{path}")
        assert isinstance(backend, ValkeyBackend)
        assert PASSWORD not in repr(backend)


class TestTheClient:
    def test_is_not_imported_with_the_package(self) -> None:
        """Who does not use the backend does not need it."""
        code = "import sys, pollin_actors.backends.valkey; assert 'valkey' not in sys.modules"
        subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)

    def test_is_named_where_it_is_missing(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Opening says which extra brings it."""
        monkeypatch.setitem(sys.modules, "valkey.connection", None)
        with pytest.raises(MissingExtra, match=r"pollin-actors\[valkey\]"):
            ValkeyBackend("valkey://h").open(time.time_ns)


class TestWhatItFinds:
    def test_nobody(self, tmp_path: Path) -> None:
        """Opening without a server is BackendUnavailable, with the cause; and so each time."""
        backend = ValkeyBackend(f"valkey+unix://{tmp_path}/none")
        for _ in range(2):
            with pytest.raises(BackendUnavailable, match="none") as caught:
                backend.open(time.time_ns)
            assert caught.value.__cause__ is not None
        with pytest.raises(BackendUnavailable, match="not open"):
            backend.execute(IndexEndpoints())
        backend.close()

    def test_a_newer_version(self) -> None:
        """A store that a newer version has made is refused, and nothing is written."""
        url = new_url()
        prefix = url.rpartition("prefix=")[2]
        client = client_of(url)
        client.set(f"{prefix}:{{:}}version", "2")
        with pytest.raises(BackendUnavailable, match="left untouched; upgrade"):
            ValkeyBackend(url).open(time.time_ns)
        assert client.keys(f"{prefix}*") == [f"{prefix}:{{:}}version".encode()]
        client.close()

    @pytest.mark.parametrize(
        ("arguments", "expected"),
        [
            (("--save", "", "--appendonly", "no"), "none"),
            (("--save", "3600 1", "--appendonly", "no"), "snapshots"),
            (ALWAYS, "always"),
            (("--appendonly", "yes", "--appendfsync", "everysec"), "everysec"),
            (("--appendonly", "yes", "--appendfsync", "no"), "system"),
        ],
    )
    def test_how_durable_the_server_is(self, arguments: tuple[str, ...], expected: str) -> None:
        """It is an attribute, and logged at the opening."""
        server = Server(arguments)
        try:
            backend = ValkeyBackend(server.url())
            assert backend.durability == "unknown"
            with capture_logs() as logs:
                backend.open(time.time_ns)
            assert backend.durability == expected
            told = [log["durability"] for log in logs if log["event"] == "backend.durability"]
            assert told == [expected]
            backend.close()
        finally:
            server.remove()

    def test_that_it_may_not_ask(self, server: Server) -> None:
        """A user with the rights that the class names works; how durable the server is, is unknown.
        A wrong password is told, and is in no text."""
        named = " ".join((ValkeyBackend.__doc__ or "").split())
        rules = named.partition("needs ``")[2].partition("``")[0].split()
        more = named.partition("what the functions call (``")[2].partition("``")[0].split()
        keys = ("~mine:*", "&mine:changes")
        calls = ("-@all", *rules, *[f"+{rule}" for rule in more])
        server.ask("ACL", "SETUSER", "inbox", "on", f">{PASSWORD}", *keys, *calls)
        url = server.url(prefix="mine").replace("://", f"://inbox:{PASSWORD}@")
        told: SimpleQueue[Any] = SimpleQueue()
        with capture_logs() as logs, Inbox(url, keep_for=1.0) as inbox:
            other = inbox.open(lambda id, revised: told.put(id))
            assert told.get(timeout=WAIT_S) is None
            assert inbox.push("a", "b") == ["queued", "queued"]
            inbox.do(Pop("orders"))
            inbox.now += 10 * SECOND
            inbox.do(Sweep())
            assert [record.callback_id for record in inbox.do(History("orders", "b"))] == ["b"]
            inbox.do(CheckReady())
            inbox.do(Reset("orders"))
            assert inbox.do(DeleteEndpoint("orders")) is True
            assert told.get(timeout=WAIT_S) == "orders"
            assert inbox.backend.durability == "unknown"
            assert PASSWORD not in repr(inbox.backend)
            other.close()
        wrong = ValkeyBackend(url.replace(PASSWORD, f"{PASSWORD}-wrong"))
        with capture_logs() as later, pytest.raises(BackendUnavailable) as caught:
            wrong.open(time.time_ns)
        error = caught.value
        assert "check name and password" in str(error)
        assert PASSWORD not in f"{error} {error!r} {error.__cause__!r} {logs} {later}"
        assert error.__cause__ is not None
        assert error.__cause__.__traceback__ is None  # it would have the password in a variable

    def test_that_it_would_evict(self, server: Server) -> None:
        """A server that would drop any key for want of memory is refused; one that might, were its
        memory bounded, is warned of."""
        server.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        backend = ValkeyBackend(server.url())
        with capture_logs() as logs:
            backend.open(time.time_ns)
        assert [log["event"] for log in logs if log["log_level"] == "warning"]
        backend.close()
        server.ask("CONFIG", "SET", "maxmemory", "100mb")
        with pytest.raises(BackendUnavailable, match="allkeys-lru"):
            backend.open(time.time_ns)
        server.ask("CONFIG", "SET", "maxmemory-policy", "volatile-lru")
        backend.open(time.time_ns)
        backend.close()


class TestTheStore:
    @pytest.mark.parametrize("id", ["{x}", "}{", "a%7Bb", "a{b", "%", ":", "ö☃", "a:b:1:q"])
    def test_takes_any_endpoint_id(self, inbox: Inbox, id: str) -> None:
        """Braces and the like decide about no hash slot, and endpoints do not meet."""
        inbox.push("a")
        inbox.do(CreateEndpoint(Endpoint.new(ttl=0, id=id)))
        assert inbox.push("a", "b", to=id) == ["queued", "queued"]
        assert [one.id for one in inbox.do(IndexEndpoints())] == ["orders", id]
        assert [inbox.do(Count(name)) for name in ("orders", id)] == [1, 2]

    def test_keeps_an_endpoint_in_one_hash_slot(self, inbox: Inbox) -> None:
        """All keys of an endpoint have the same braces."""
        inbox.push("a", "b")
        inbox.do(Pop("orders"))
        client = client_of(inbox.url)
        keys = [key.decode() for key in client.keys(f"{prefix_of(inbox)}:*")]
        client.close()
        assert {re.findall(r"\{.*?\}", key)[0] for key in keys} == {"{:}", "{orders}"}

    def test_leaves_only_a_position_of_what_was_deleted(self, inbox: Inbox) -> None:
        """Positions are never given out twice, so the last one stays; all else is gone."""
        inbox.push("a", "b")
        inbox.do(DeleteEndpoint("orders"))
        client = client_of(inbox.url)
        prefix = prefix_of(inbox)
        assert client.keys(f"{prefix}:{{orders}}*") == [f"{prefix}:{{orders}}".encode()]
        assert set(client.hgetall(f"{prefix}:{{orders}}")) == {b"p"}
        assert client.zrange(f"{prefix}:{{:}}endpoints", 0, -1) == []
        client.close()

    def test_bears_a_half_made_endpoint(self, inbox: Inbox) -> None:
        """A process that ends between the list and the endpoint leaves a name that is passed over,
        swept over, and may be made."""
        client = client_of(inbox.url)
        listed = f"{prefix_of(inbox)}:{{:}}endpoints"
        client.zadd(listed, {"ghost": 0})
        assert [one.id for one in inbox.do(IndexEndpoints())] == ["orders"]
        assert inbox.do(Sweep()) == 0
        inbox.do(CreateEndpoint(Endpoint.new(id="ghost")))
        assert [one.id for one in inbox.do(IndexEndpoints())] == ["orders", "ghost"]
        with pytest.raises(EndpointExists):
            inbox.do(CreateEndpoint(Endpoint.new(id="orders")))
        assert [one.id for one in inbox.do(IndexEndpoints())] == ["orders", "ghost"]
        for id in ("orders", "ghost"):
            assert inbox.do(DeleteEndpoint(id)) is True
        assert client.zrange(listed, 0, -1) == []
        client.close()

    def test_expires_much_in_steps(self) -> None:
        """However much has expired at once, no call does it all; messages keep their order."""
        with Inbox(new_url(), ttl=1000) as inbox:
            inbox.push(*map(str, range(1300)))
            inbox.now += SECOND
            count, (pushed,), later = (
                inbox.backend.execute(Count("orders")),
                inbox.start("new"),
                inbox.backend.execute(Count("orders")),
            )
            head = inbox.backend.execute(Fetch("orders"))
            assert count.get(timeout=WAIT_S) == 0
            assert pushed.get(timeout=WAIT_S).outcome == "queued"
            assert later.get(timeout=WAIT_S) == 1
            assert head.get(timeout=WAIT_S).id == "new"
            assert inbox.do(Stats("orders")).expired == 1300

    def test_sweeps_as_many_as_it_is_told(self) -> None:
        """Over several endpoints, however they share them."""
        with Inbox(new_url(), ttl=1000) as inbox:
            for name in "abc":
                inbox.do(CreateEndpoint(Endpoint.new(ttl=1000, id=name)))
                inbox.push(*map(str, range(700 if name == "b" else 3)), to=name)
            inbox.now += SECOND
            assert [inbox.do(Sweep(limit)) for limit in (0, 2, 650, 1000)] == [0, 2, 650, 54]

    def test_looks_at_no_more_than_a_slice_has(self, inbox: Inbox) -> None:
        """Slices are as they would be of a list, of what is claimed and what is not, and of several
        phases; whatever the offset, the server reads no more, for it answers nobody else then."""
        ids = [f"{number:02}" for number in range(40)]
        inbox.push(*ids)
        for id in ids[::3]:
            inbox.do(UpdatePhase("orders", id, "done"))
        received = [id for id in ids if id not in ids[::3]]
        claims = inbox.do(ClaimSlice("orders", "received", 9, 10.0)).claims
        claimed = {claim.callback.id for claim in claims}
        for id in received[:20:2]:
            inbox.do(DeleteCallback("orders", id))
        received = received[1:20:2] + received[20:]
        free = [id for id in ids if id in {*received, *ids[::3]} - claimed]
        client = client_of(inbox.url)
        with client.monitor() as monitor:
            for offset in range(30):
                some = slice(offset, offset + 5)
                for kind, expected in (
                    (FetchSlice("orders", "received", offset, 5), received[some]),
                    (FetchReverse("orders", "received", offset, 5), received[::-1][some]),
                ):
                    assert [one.id for one in inbox.do(kind)] == expected
            taken = [one.id for one in inbox.do(PopSlice("orders", None, 11, 5))]
            assert inbox.do(PopSlice("orders", None, 40, 5)) == []
            inbox.do(Count("orders"))
            words = next(monitor.listen())["command"].split()
            limits = []
            while words[0] != "ZCARD":
                if "LIMIT" in words and words[0].endswith("RANGEBYLEX"):
                    limits.append(tuple(words[-2:]))
                words = next(monitor.listen())["command"].split()
        client.close()
        assert taken == free[11:16]
        assert set(limits) == {("0", "5")}

    def test_keeps_endpoints_of_the_same_terms_apart(self) -> None:
        """What begins to be consumed at one of them goes on expiring at the other."""
        with Inbox(new_url(), ttl=1000, secret="same") as inbox:
            like = Endpoint.new(["received", "done"], 1000, id="other", secret="same")
            inbox.do(CreateEndpoint(like))
            inbox.push("a", "b", "c")
            inbox.push("a", to="other")
            inbox.do(Consume("orders", "received"))
            inbox.now += SECOND
            assert [inbox.do(Count(name)) for name in ("orders", "other")] == [3, 0]

    def test_knows_secrets_by_their_digest(self, inbox: Inbox) -> None:
        """What a sender shows is not sent to the server, so it is in no log of that."""
        client = client_of(inbox.url)
        with client.monitor() as monitor:
            secret = Secret(PASSWORD)
            inbox.do(CreateEndpoint(Endpoint.new(id="other", secret="another")))
            with pytest.raises(Exception, match="wrong secret"):
                inbox.do(Push("other", Callback.new(b"x", id="last"), secret))
            commands = [next(monitor.listen())["command"]]
            while '"last"' not in commands[-1] and "last" not in commands[-1]:
                commands.append(next(monitor.listen())["command"])
        client.close()
        assert PASSWORD not in " ".join(commands)

    def test_counts_repeats_as_the_records_say(self) -> None:
        """The functions have the same bound."""
        source = files("pollin_actors.backends.valkey").joinpath("5_pushes.lua").read_text("utf-8")
        assert f"\nlocal MAX_REPEATS = {MAX_REPEATS}\n" in source


def test_it_is_a_task_of_a_simulated_run() -> None:
    """There it starts no thread, and two runs with the same seed are the same."""
    runs: list[tuple[Any, int, int]] = []
    for _ in range(2):
        with Simulation(seed=5) as simulation:
            app = Application(
                ValkeyBackend(new_url()),
                runtime=simulation.runtime,
                endpoints=[Endpoint.new(id="e", secret="s")],
            )
            with app:
                pushes = [
                    app.callbacks.push("e", Callback.new(b"x", id=str(number)))
                    for number in range(20)
                ]
                outcomes = [push.get().outcome for push in pushes]
                count = app.callbacks.count("e").get()
                names = {thread.name for thread in threading.enumerate()}
                runs.append((outcomes, count, simulation.scheduler.turns))
                assert not any(name.startswith("pollin-valkey") for name in names)
    assert runs[0] == runs[1]
    assert runs[0][1] == 20


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_forked_processes_are_refused() -> None:
    """The backend is not used where the parent had it open; one of the child's own is."""
    code = (
        "import os, sys, time\n"
        "from pollin_actors.backends.valkey import ValkeyBackend\n"
        "from pollin_actors.messages import IndexEndpoints\n"
        "from pollin_actors.errors import ForkedProcess\n"
        "backend = ValkeyBackend(sys.argv[1])\n"
        "backend.announce_to(lambda id, revised: None)\n"
        "backend.open(time.time_ns)\n"
        "backend.execute(IndexEndpoints()).get()\n"
        "if os.fork() == 0:\n"
        "    refused = 0\n"
        "    try:\n"
        "        backend.execute(IndexEndpoints())\n"
        "    except ForkedProcess:\n"
        "        refused += 1\n"
        "    backend.close()\n"
        "    other = ValkeyBackend(sys.argv[1])\n"
        "    other.open(time.time_ns)\n"
        "    other.execute(IndexEndpoints()).get()\n"
        "    other.close()\n"
        "    os._exit(refused)\n"
        "assert os.waitstatus_to_exitcode(os.wait()[1]) == 1\n"
        "backend.execute(IndexEndpoints()).get()\n"
        "backend.close()\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, new_url()],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
