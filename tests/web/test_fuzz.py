"""The short form of ``python -m tests.fuzz_receiver``: requests of the same kinds, but fewer."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz_receiver.kinds import KINDS
from tests.fuzz_receiver.rounds import Fuzz

REQUESTS = 1_000


@pytest.mark.parametrize("http", ["httptools", "h11"])
@pytest.mark.parametrize("backend", ["memory", "sqlite"])
def test_only_what_is_genuine_is_stored_whatever_is_sent(
    tmp_path: Path, backend: str, http: str
) -> None:
    """No error of the server but 503, every whole request answered, nothing in its log; in the
    queues is what was genuine, once, and all of it that was answered 200."""
    url = "memory://" if backend == "memory" else f"sqlite:///{tmp_path}/inbox.db"
    fuzz = Fuzz(url, http, REQUESTS, seed=1)
    fuzz.run()

    assert fuzz.book.failures == []
    assert fuzz.book.requests >= REQUESTS
    assert len(fuzz.book.answers) > len(KINDS) - 3
    assert fuzz.book.stored > REQUESTS / 10
    assert fuzz.book.quarantined > 0
