"""Times, sizes and durations as people write and read them."""

from __future__ import annotations

import pytest

from pollin_actors.cli import human
from pollin_actors.cli.errors import UserError

SECOND = 1_000_000_000


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1_000, "1 kB"),
        (1_234, "1.23 kB"),
        (999_499, "999 kB"),
        (999_500, "1 MB"),
        (4 * 1024 * 1024, "4.19 MB"),
        (81_500_000_000, "81.5 GB"),
        (5 * 10**15, "5e+03 TB"),
    ],
)
def test_sizes(number: int, shown: str) -> None:
    """Three digits, in the largest unit that fits."""
    assert human.size(number) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0 s"),
        (0.5, "less than 1 s"),
        (1, "1 s"),
        (59, "59 s"),
        (60, "1 min"),
        (3_599, "60 min"),
        (3_600, "1 h"),
        (86_400, "24 h"),
        (2 * 86_400, "2 days"),
        (400 * 86_400, "400 days"),
        (-90, "2 min"),
    ],
)
def test_durations(seconds: float, shown: str) -> None:
    """One number, in the largest unit that fits."""
    assert human.duration(seconds) == shown


def test_how_long_ago() -> None:
    """Before, after and now."""
    now = 1_000 * SECOND
    assert human.ago(now - 5 * SECOND, now) == "5 s ago"
    assert human.ago(now + 120 * SECOND, now) == "in 2 min"
    assert human.ago(now + SECOND // 2, now) == "now"


@pytest.mark.parametrize(
    ("at", "shown"),
    [
        (0, "1970-01-01 00:00:00 UTC"),
        (1_767_323_045_999_999_999, "2026-01-02 03:04:05 UTC"),
        ((1 << 63) - 1, "2262-04-11 23:47:16 UTC"),
        (10**21, "after the year 9999"),
    ],
)
def test_moments(at: int, shown: str) -> None:
    """Whatever is stored can be shown."""
    assert human.moment(at) == shown


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0", 0),
        ("250ms", 0.25),
        ("90s", 90),
        ("1.5h", 5_400),
        (" 2 d ", 172_800),
        ("1w", 604_800),
        ("3 days", 259_200),
        ("15 min", 900),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """All units, fractions and white space around them."""
    assert human.read_duration(text, "--x") == seconds


@pytest.mark.parametrize(
    "text", ["", "5", "5 parsecs", "-5s", "1e3s", "٣s", "s", "5s5s", "9" * 400 + "s"]
)
def test_what_is_no_duration(text: str) -> None:
    """The option is named, and what it takes."""
    with pytest.raises(UserError, match="--x: expected a duration such as 90s"):
        human.read_duration(text, "--x")


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-02", 1_767_312_000 * SECOND),
        ("2026-01-02T03:04:05", 1_767_323_045 * SECOND),
        ("2026-01-02 03:04:05.000001Z", 1_767_323_045_000_001_000),
        ("2026-01-02T04:04:05+01:00", 1_767_323_045 * SECOND),
        ("1767323045000000007", 1_767_323_045_000_000_007),
        ("1969-12-31", 0),
    ],
)
def test_times_are_read(text: str, at: int) -> None:
    """In UTC unless they have a zone; nanoseconds as they are."""
    assert human.read_moment(text, "--x") == at


def test_how_long_ago_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    """A duration is a time that lies back so far, and never before all times."""
    monkeypatch.setattr(human, "now_ns", lambda: 10_000 * SECOND)
    assert human.read_moment("1h", "--x") == 6_400 * SECOND
    assert human.read_moment("1w", "--x") == 0


@pytest.mark.parametrize("text", ["", "yesterday", "1767323045", "2026-13-01", "9" * 30])
def test_what_is_no_time(text: str) -> None:
    """The option is named, and what it takes."""
    with pytest.raises(UserError, match="--x: expected a time such as"):
        human.read_moment(text, "--x")
