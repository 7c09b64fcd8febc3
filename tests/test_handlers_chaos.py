"""Handlers when much goes wrong: each callback comes to its end all the same."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tests.chaos_handlers.world import World, run
from tests.kill_handlers import Killing

SEEDS, AT_ONCE = 80, 10


@pytest.mark.parametrize("first", range(0, SEEDS, AT_ONCE))
def test_nothing_is_lost_whatever_goes_wrong(first: int, tmp_path: Path) -> None:
    """Each callback is processed, discarded or dead, and its history says how it came there.

    CONTRIBUTING.md says how to have more seeds.
    """
    for seed in range(first, first + AT_ONCE):
        folder = tmp_path / str(seed)
        folder.mkdir()
        assert (seed, run(seed, folder).wrong) == (seed, [])


def told(world: World) -> list[Any]:
    """All that has happened, but for what the clock of this machine says."""
    return [
        (record.position, record.callback_id, record.kind, record.at, record.attempt)
        for endpoint in world.plan.endpoints
        for record in world.history[endpoint.id]
    ]


@pytest.mark.parametrize("seed", range(6))
def test_the_same_seed_gives_the_same_run(seed: int, tmp_path: Path) -> None:
    """Threads, event loop, disk and chance are the simulation's: a run can be repeated."""
    runs = []
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        runs.append(told(run(seed, tmp_path / name)))
    assert runs[0] == runs[1]
    assert runs[0]


def test_processes_that_are_killed_lose_nothing(tmp_path: Path) -> None:
    """Some rounds here; CONTRIBUTING.md says how to have more."""
    killing = Killing(tmp_path / "inbox.db", seed=1)
    killing.run(10)
    assert killing.acknowledged
