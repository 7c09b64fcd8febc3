"""Identifiers are of version 7, ordered and unique."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
import uuid
from pathlib import Path

import pytest

from pollin_actors import identifiers
from pollin_actors.identifiers import uuid7


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """A clock that stands still; its only item is the time."""
    times = [time.time_ns() + 10**12]
    monkeypatch.setattr(identifiers, "time_ns", lambda: times[0])
    monkeypatch.setattr(identifiers, "_newest", 0)
    return times


def test_is_a_uuid_of_version_7() -> None:
    for _ in range(1000):
        text = uuid7()
        parsed = uuid.UUID(text)
        assert str(parsed) == text
        assert parsed.version == 7
        assert parsed.variant == uuid.RFC_4122


def test_holds_the_time_in_milliseconds(clock: list[int]) -> None:
    assert uuid.UUID(uuid7()).int >> 80 == clock[0] // 1_000_000


def test_holds_the_fraction_of_the_millisecond(clock: list[int]) -> None:
    clock[0] = clock[0] // 1_000_000 * 1_000_000 + 500_000

    assert uuid.UUID(uuid7()).int >> 64 & 0xFFF == 2048


def test_is_ordered_while_the_clock_stands_still(clock: list[int]) -> None:
    made = [uuid7() for _ in range(10_000)]

    assert made == sorted(set(made))
    assert all(uuid.UUID(text).version == 7 for text in made)


def test_is_ordered_while_the_clock_goes_back(clock: list[int]) -> None:
    made = []
    for _ in range(1000):
        made.append(uuid7())
        clock[0] -= 10**9

    assert made == sorted(set(made))


def test_is_unique_among_threads() -> None:
    made: list[list[str]] = [[] for _ in range(4)]

    def make(into: list[str]) -> None:
        into.extend(uuid7() for _ in range(5000))

    threads = [threading.Thread(target=make, args=(into,)) for into in made]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set().union(*made)) == 20_000


FORK = """
import os
from pollin_actors.identifiers import uuid7

reader, writer = os.pipe()
child = os.fork()
if child == 0:
    os.write(writer, uuid7().encode())
    os._exit(0)
os.waitpid(child, 0)
print(uuid7(), os.read(reader, 100).decode())
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="the platform has no fork")
def test_a_forked_child_has_other_random_bits() -> None:
    # A process of its own: this one may have threads, which do not go well with a fork.
    root = Path(identifiers.__file__).parent.parent
    done = subprocess.run(
        [sys.executable, "-c", FORK], cwd=root, check=True, capture_output=True, text=True
    )
    parent, child = done.stdout.split()

    assert parent[19:] != child[19:]
