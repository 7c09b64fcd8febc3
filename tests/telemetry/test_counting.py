"""Numbers that threads add to: nothing is lost, however often they are interrupted."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator

import pytest

from pollin_actors.telemetry.counting import Counts, Timings

EACH, THREADS = 20_000, 4


@pytest.fixture(autouse=True)
def switching() -> Iterator[None]:
    """Threads take turns as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(before)


def together(work: object) -> None:
    threads = [threading.Thread(target=work) for _ in range(THREADS)]  # type: ignore[arg-type]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_counts() -> None:
    counts = Counts()

    def work() -> None:
        for number in range(EACH):
            counts.add(("a",))
            counts.add((str(number % 7), "b"))

    together(work)
    counted = dict(counts.items())
    assert counted["a",] == EACH * THREADS
    assert sum(counted.values()) == 2 * EACH * THREADS


def test_timings() -> None:
    """Each is in one bucket, and the buckets are cumulative; what is on a bound is below it."""
    timings = Timings((0.5, 1.0))

    def work() -> None:
        for _ in range(EACH):
            timings.add(("a",), 0.25)
            timings.add(("a",), 0.5)
            timings.add(("a",), 1.0)
            timings.add(("a",), 9.0)

    together(work)
    [(key, counts, total)] = timings.items()
    all_of_them = EACH * THREADS
    assert key == ("a",)
    assert counts == [2 * all_of_them, 3 * all_of_them, 4 * all_of_them]
    assert total == 10.75 * all_of_them


def test_reading_while_they_grow() -> None:
    """Who reads sees each number once, and none that goes back."""
    counts, over = Counts(), threading.Event()
    wrong: list[object] = []

    def read() -> None:
        before: dict[tuple[str, ...], int] = {}
        while not over.is_set():
            now = dict(counts.items())
            if any(now.get(key, 0) < value for key, value in before.items()):
                wrong.append((before, now))
            before = now

    reader = threading.Thread(target=read)
    reader.start()
    for number in range(EACH):
        counts.add((str(number),))
        counts.add(("a",))
    over.set()
    reader.join()
    assert wrong == []


def test_forgetting() -> None:
    counts, timings = Counts(), Timings((1.0,))
    for label in ("a", "b"):
        counts.add((label, "x"))
        timings.add((label,), 2.0)
    counts.forget("a")
    timings.forget("a")
    assert [key for key, _ in counts.items()] == [("b", "x")]
    assert [key for key, _, _ in timings.items()] == [("b",)]
