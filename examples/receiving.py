"""Webhooks of several providers, taken in below ``/hooks`` of a Flask service.

Run it: ``python examples/receiving.py 8000``, then
``curl -i -d '{}' -H 'x-pollin-secret: change-me' http://127.0.0.1:8000/hooks/internal``
"""

from __future__ import annotations

import signal
import sys
from contextlib import suppress

from flask import Flask
from werkzeug.middleware.dispatcher import DispatcherMiddleware
from werkzeug.serving import make_server

from pollin_actors import Application, Endpoint, Intake, web

DAY_S = 86_400.0


def new_inbox(backend: str = "memory://") -> Application:
    return Application(
        backend,
        endpoints=[
            Endpoint.new(
                ["received", "built"],
                ttl=0,
                id="github",
                secret="change-me-too",
                intake=Intake("github", content_types=["application/json"]),
            ),
            Endpoint.new(
                ["received", "booked"],
                ttl=0,
                id="billing",
                secret="whsec_change-me",
                intake=Intake("stripe?tolerance=60", rate=50, burst=500),
            ),
            Endpoint.new(
                ["received"],
                ttl=0,
                id="partner",
                secret="agreed-upon-on-the-phone",
                intake=Intake("hmac?header=X-Acme-Signature&prefix=sha256%3D", verify="later"),
            ),
            Endpoint.new(["received"], ttl=0, id="internal", secret="change-me"),
            Endpoint.new(["received"], ttl=0, id="retired", intake=Intake(enabled=False)),
        ],
    )


def service(inbox: Application) -> Flask:
    flask = Flask("hooks")
    flask.add_url_rule("/", view_func=lambda: "the service's own pages")
    hooks = web.wsgi(inbox, max_bytes=1_000_000)
    flask.wsgi_app = DispatcherMiddleware(flask.wsgi_app, {"/hooks": hooks})  # type: ignore[method-assign]
    return flask


def rotate(inbox: Application, endpoint_id: str) -> str:
    """Give an endpoint a new secret; the old one is valid for another day."""
    endpoint = inbox.endpoints.rotate(endpoint_id, overlap=DAY_S).get()
    return endpoint.secret.reveal()  # to be entered at the sender's


def reasons(inbox: Application, endpoint_id: str) -> list[str]:
    """Why requests did not verify."""
    return [held.reason for held in web.quarantined(inbox, endpoint_id)]


def mend(inbox: Application, endpoint_id: str, secret: str) -> int:
    """The secret was a wrong one: set the right one, and verify again what it kept out."""
    inbox.endpoints.rotate(endpoint_id, secret=secret, overlap=0).get()
    return web.verify_again(inbox, endpoint_id)


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with new_inbox() as inbox, suppress(KeyboardInterrupt):
        server = make_server("127.0.0.1", port, service(inbox), threaded=True)
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        finally:
            server.server_close()
    print("stopped", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
