"""A service whose worker processes are forked: each starts its Application after the fork.

The two hooks have the names and arguments that gunicorn calls: a configuration file of its may
import them from here. Run it: ``python examples/prefork_service.py`` forks one worker itself.
"""

from __future__ import annotations

import os

from pollin_actors import Application, Callback, Endpoint

# Made before the fork, which is fine, and not started: threads do not survive a fork.
inbox = Application(endpoints=[Endpoint.new(["received"], ttl=0, id="orders")])


def post_fork(server: object, worker: object) -> None:
    """In the worker, right after the fork."""
    inbox.start()


def worker_exit(server: object, worker: object) -> None:
    """In the worker, before it exits."""
    inbox.stop()


def main() -> int:
    """Fork a worker as a server does; return its exit status."""
    child = os.fork()
    if child == 0:
        status = 1
        try:
            post_fork(None, None)
            inbox.callbacks.push("orders", Callback.new(b"{}")).get()
            queued = inbox.callbacks.count("orders").get()
            worker_exit(None, None)
            print("queued in the worker:", queued, flush=True)
            status = 0
        finally:
            os._exit(status)
    _, ended = os.waitpid(child, 0)
    return os.waitstatus_to_exitcode(ended)


if __name__ == "__main__":
    raise SystemExit(main())
