"""Many messages in one transaction answer, and leave, what they would one by one."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.statements import BATCHES
from pollin_actors.backends.sqlite.writer import Writer
from pollin_actors.errors import PollinError
from pollin_actors.messages import (
    CreateEndpoint,
    DeleteEndpoint,
    DumpPage,
    History,
    Pop,
    Push,
    Reset,
    RotateSecret,
    Sweep,
    UpdatePhase,
)
from pollin_actors.records import Kind, Record
from pollin_actors.resources import Callback, Endpoint, Secret
from tests.backends.sqlite_file import check_file

SECOND = 10**9

IDS = st.sampled_from([*"abcdefghijklmnop"])
PUSHES = st.builds(
    lambda endpoint, id, phase, secret, fence: Push(
        endpoint, Callback(id, id.encode(), phase, 1, fence=fence), secret, secret is None
    ),
    st.sampled_from(["e", "e", "e", "f"]),
    IDS,
    st.sampled_from(["", "", "", "processed", "gone"]),
    st.sampled_from([None, None, None, "s", "t", "wrong"]),
    st.sampled_from([None, None, None, None, "a", "x", "y"]),
)
OTHERS = st.one_of(
    st.builds(Pop, st.just("e"), st.none() | IDS),
    st.builds(UpdatePhase, st.just("e"), IDS, st.just("processed")),
    st.just(Reset("e")),
    st.just(Sweep(3)),
    st.just(DeleteEndpoint("f")),
    st.builds(
        RotateSecret,
        st.just("e"),
        st.sampled_from([Secret("s"), Secret("t")]),
        st.sampled_from([0, 10**18 + SECOND]),
    ),
)
# Runs of pushes are what is done at once; what stands between them ends a run.
GROUPS = st.lists(
    st.tuples(
        st.sampled_from([0, SECOND // 2, 3 * SECOND]),
        st.lists(st.one_of(PUSHES, PUSHES, PUSHES, PUSHES, PUSHES, PUSHES, OTHERS), max_size=40),
    ),
    max_size=4,
)


def push(id: str, fence: str | None = None) -> Push:
    return Push("e", Callback(id, b"x", "", 1, fence=fence), None, True)


class Both:
    """The same messages for memory, one by one, and for SQLite, a group at a time."""

    def __init__(self, path: Path) -> None:
        self.now = 10**18
        self.memory = MemoryBackend()
        self.memory.open(lambda: self.now)
        self.sqlite = SqliteBackend(path, durability="normal")
        self.sqlite.open(lambda: self.now)
        for id, ttl, dedup_for in (("e", 1000, 2.0), ("f", 0, 0.0)):
            endpoint = Endpoint.new(
                ["received", "processed"], ttl, id=id, secret="s", dedup_for=dedup_for
            )
            self.memory.execute(CreateEndpoint(endpoint))
            self.sqlite.execute(CreateEndpoint(endpoint)).get()

    def group(self, messages: list[Any]) -> None:
        """Carry them out and compare the answers."""
        expected = [outcome(lambda it=it: self.memory.execute(it)) for it in messages]
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(Writer, "_watch", lambda writer: None)
            patch.setattr(Writer, "_ring", lambda writer: None)
            futures = [self.sqlite.execute(message) for message in messages]
        assert self.sqlite._writer is not None
        self.sqlite._writer._ring()
        # No get() before all are answered: who waits would help with the first few.
        got = [outcome(lambda it=it: it.get(timeout=60)) for it in reversed(futures)][::-1]
        for message, ours, theirs in zip(messages, got, expected, strict=True):
            # How much is left for a sweep is each backend's own business.
            assert ours == theirs or type(message) is Sweep

    def compare(self) -> None:
        for endpoint in ("e", "f"):
            pages = [
                outcome(lambda it=endpoint: self.memory.execute(DumpPage(it)).callbacks),
                outcome(lambda it=endpoint: self.sqlite.execute(DumpPage(it)).get().callbacks),
            ]
            assert pages[0] == pages[1]
        for id in "abcdefghijklmnop":
            asked = History("e", id)
            assert told(self.memory.execute(asked)) == told(self.sqlite.execute(asked).get())


def told(records: list[Record]) -> list[Any]:
    """What records say, but for those whose time is each backend's own business."""
    return [record[2:] for record in records if record.kind is not Kind.EXPIRED]


def outcome(act: Any) -> Any:
    try:
        return act()
    except PollinError as error:
        return type(error), str(error)


@settings(max_examples=150, deadline=None)
@given(GROUPS)
@example([(0, [push(f"{number}") for number in range(200)])])
@example([(0, [push("c")]), (0, [push(id) for id in "abcdefgh"]), (0, [Pop("e")])])
@example([(0, [push(id, fence) for id, fence in zip("abcdefgh", "vwxvwxyz", strict=True)])])
@example([(0, [push("c", "x")]), (3 * SECOND, [push(id, "x") for id in "abcdefgh"])])
@example([(0, [push("c")]), (3 * SECOND, [push(id) for id in "abcdefgh"])])
@example([(0, [push("c"), Pop("e")]), (SECOND, [push(id) for id in "abcdefghc"])])
def test_groups_are_as_good_as_single_messages(groups: list[tuple[int, list[Any]]]) -> None:
    """Known ids, ids that are due again, expired callbacks, refusals: in every place of a run."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "inbox.db"
        both = Both(path)
        try:
            for wait, messages in groups:
                both.now += wait
                both.group(messages)
                both.compare()
        finally:
            both.sqlite.close()
        check_file(path)


def test_a_run_of_pushes_takes_few_statements(tmp_path: Path) -> None:
    """While one runs, other threads can; each statement of its own would take a turn."""
    both = Both(tmp_path / "inbox.db")
    assert both.sqlite._writer is not None
    operations = both.sqlite._writer._link.operations
    execute, added = operations._execute, []

    def spy(statement: str, *values: Any) -> Any:
        if "INTO callbacks" in statement:
            added.append(statement)
        return execute(statement, *values)

    operations._execute = spy
    both.group([push(f"{number}") for number in range(sum(BATCHES))])
    both.sqlite.close()
    assert len(added) == len(BATCHES)
