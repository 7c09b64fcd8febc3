"""Measure several things in turn, round after round, so that all meet the same machine."""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable, Mapping

__all__ = ["measure", "table"]


def measure(
    subjects: Mapping[str, Callable[[int], None]],
    counts: Mapping[str, int],
    rounds: int = 5,
    prepare: Mapping[str, Callable[[int], None]] | None = None,
) -> dict[str, list[float]]:
    """Seconds per operation of each subject, one figure a round.

    Args:
        subjects: functions that carry out so many operations.
        counts: how many operations each does in a round.
        rounds: how many rounds.
        prepare: called before each round of a subject, and not measured.
    """
    figures: dict[str, list[float]] = {name: [] for name in subjects}
    for number in range(rounds + 1):
        for name, run in subjects.items():
            count = counts[name]
            if prepare is not None:
                prepare[name](count)
            gc.collect()
            begin = time.perf_counter()
            run(count)
            seconds = time.perf_counter() - begin
            if number:  # the first round warms up
                figures[name].append(seconds / count)
    return figures


def table(figures: Mapping[str, list[float]], base: str) -> None:
    """Print the medians, and how many times as fast as the base, round by round, each is."""
    print(f"{'':28}{'median us':>12}{'per second':>14}{'x ' + base:>24}{'min-max':>16}")
    for name, values in figures.items():
        ratios = [b / v for b, v in zip(figures[base], values, strict=True)]
        median = statistics.median(values)
        print(
            f"{name:28}{median * 1e6:12.2f}{1 / median:14,.0f}"
            f"{statistics.median(ratios):24.1f}{min(ratios):9.1f}-{max(ratios):.1f}"
        )
