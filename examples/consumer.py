"""A consumer that works by phases: received, then processed or failed, then popped.

Run it: ``python examples/consumer.py``
"""

from __future__ import annotations

import json

from pollin_actors import Application, Callback, Endpoint, Request

PHASES = ["received", "processed", "failed"]


def process(request: Request) -> str:
    """The work itself: the number of an order. It may raise."""
    return str(json.loads(request.body)["order"])


def process_received(app: Application) -> None:
    """Process whatever is received. A callback stays queued until its work has ended."""
    while batch := app.callbacks.fetch("orders", phase="received", limit=100).get():
        for callback in batch:
            try:
                process(callback.request)
            except (ValueError, KeyError):
                phase = "failed"
            else:
                phase = "processed"
            app.callbacks.update_phase("orders", key=callback.id, phase=phase).get()


def remove_processed(app: Application) -> list[Callback]:
    """Take what is done out of the queue; what failed stays there to be looked at."""
    removed: list[Callback] = []
    while batch := app.callbacks.pop("orders", phase="processed", limit=100).get():
        removed += batch
    return removed


def main() -> None:
    bodies = [b'{"order": 1}', b"no JSON at all", b'{"order": 2}', b'{"order": 3}']
    with Application(endpoints=[Endpoint.new(PHASES, ttl=0, id="orders")]) as app:
        for body in bodies:
            app.callbacks.push("orders", Callback.new(Request([], body))).get()
        process_received(app)
        for callback in remove_processed(app):
            print("done:", process(callback.request))
        for callback in app.callbacks.dump("orders"):
            print(f"{callback.phase}:", callback.request.body.decode())


if __name__ == "__main__":
    main()
