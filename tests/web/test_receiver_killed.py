"""The receiver under load on SQLite, killed in the middle: see ``tests.kill_receiver``."""

from __future__ import annotations

from pathlib import Path

from tests.kill_receiver import Rounds


def test_what_was_answered_200_is_there_after_the_server_was_killed(tmp_path: Path) -> None:
    """64 connections, three rounds on one file: nothing that was answered is lost, nothing is
    there twice, and the file is sound."""
    killing = Rounds(tmp_path / "inbox.db", seed=1)
    for _ in range(3):
        killing.run()
    assert killing.answered >= 3
