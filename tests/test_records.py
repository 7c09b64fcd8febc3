"""Claims and records are plain data; a claim shows no token."""

from __future__ import annotations

import pickle

from pollin_actors.records import Claim, Claims, EndpointStats, Kind, Record, RecordPage
from pollin_actors.resources import Callback


def test_a_claim_says_what_is_claimed() -> None:
    """Key and attempt are the callback's."""
    callback = Callback.new(b"x", id="c1").with_attempts(3)
    claim = Claim("orders", callback, "hunter2", 5)

    assert (claim.key, claim.attempt, claim.until) == ("c1", 3, 5)
    assert pickle.loads(pickle.dumps(claim)) == claim


def test_a_claim_shows_no_token() -> None:
    """Who reads a log cannot acknowledge."""
    claim = Claim("orders", Callback.new(b"x", id="c1"), "hunter2", 5)

    assert "hunter2" not in repr(claim)
    assert "hunter2" not in repr(Claims([claim], None))
    assert "c1" in repr(claim)


def test_replies_are_tuples() -> None:
    """They are taken apart by position, and a kind is a text."""
    record = Record(1, "orders", "c1", Kind.DEAD, "a", "b", 5, "w", 2, "why")
    records, cursor = RecordPage([record], 1)

    assert (records, cursor) == ([record], 1)
    assert record.kind == "dead"
    assert pickle.loads(pickle.dumps(record)) == record
    assert EndpointStats(5, 4, 3, 2, 1) == (5, 4, 3, 2, 1)
