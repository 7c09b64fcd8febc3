"""The example that moves an inbox: what was queued in one file is queued in the other."""

from __future__ import annotations

from pathlib import Path

from examples.move_inbox import move
from pollin_actors import Application, Callback, Endpoint, Request


def test_everything_is_moved(tmp_path: Path) -> None:
    """With the secret; and what is moved again adds nothing."""
    old, new = (f"sqlite:///{tmp_path / name}" for name in ("old.db", "new.db"))
    endpoint = Endpoint.new(id="orders")
    with Application(old, endpoints=[endpoint]) as app:
        for number in range(3):
            app.callbacks.push("orders", Callback.new(Request([], b"%d" % number))).get()
    dump = str(tmp_path / "inbox.ndjson")

    assert move(old, new, dump) == (1, 3, 0)
    assert move(old, new, dump) == (0, 0, 3)
    with Application(new) as app:
        assert app.endpoints.index().get() == [endpoint]
        bodies = [callback.request.body for callback in app.callbacks.dump("orders")]
        assert bodies == [b"0", b"1", b"2"]
