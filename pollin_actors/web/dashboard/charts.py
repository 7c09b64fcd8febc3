"""Small charts, as the numbers of an SVG."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from pollin_actors.web.dashboard.flows import Bucket

__all__ = ["Bar", "Chart", "chart"]


class Bar(NamedTuple):
    """One bar: where it stands, and how far up it goes."""

    x: float
    y: float
    height: float


class Chart(NamedTuple):
    """What came as bars, what went as a line, failures as marks; what is not known is left open."""

    width: int
    height: int
    bar: float
    """How wide one is."""
    came: tuple[Bar, ...]
    failed: tuple[Bar, ...]
    lines: tuple[str, ...]
    """The points of what went: one line for each stretch that is known."""
    unknown: float
    """How far from the left nothing is known."""
    peak: int
    """The largest number of one bar."""
    label: str
    """The chart in words."""


def chart(buckets: Sequence[Bucket], width: int = 240, height: int = 40, each_s: int = 10) -> Chart:
    """The chart of some buckets, oldest first.

    Arguments:
        buckets: what happened.
        width: of the drawing.
        height: of the drawing.
        each_s: seconds of a bucket.
    """
    step = width / max(len(buckets), 1)
    known = [bucket for bucket in buckets if bucket.came is not None]
    most = max((max(b.came or 0, b.went or 0) for b in known), default=0)
    scale = (height - 2) / most if most else 0.0
    came: list[Bar] = []
    failed: list[Bar] = []
    lines: list[str] = []
    line: list[str] = []
    unknown = 0.0
    for index, bucket in enumerate(buckets):
        x = index * step
        if bucket.came is None:
            unknown = x + step
            continue
        if bucket.came:
            tall = max(bucket.came * scale, 1.0)
            came.append(Bar(round(x, 2), round(height - tall, 2), round(tall, 2)))
        if bucket.failed:
            failed.append(Bar(round(x, 2), height - 3.0, 3.0))
        line.append(f"{x + step / 2:.2f},{height - 1 - (bucket.went or 0) * scale:.2f}")
    if len(line) > 1 and any(bucket.went for bucket in known):
        lines.append(" ".join(line))
    total_came, total_went, total_failed = (
        sum(bucket[place] or 0 for bucket in known) for place in range(3)
    )
    minutes = round(len(known) * each_s / 60)
    label = (
        f"Last {minutes} minutes: {total_came} came in, {total_went} were done, "
        f"{total_failed} attempts failed; at most {most} in {each_s} seconds"
    )
    return Chart(
        width,
        height,
        round(max(step - 0.8, 0.8), 2),
        tuple(came),
        tuple(failed),
        tuple(lines),
        round(unknown, 2),
        most,
        label,
    )
