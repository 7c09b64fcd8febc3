"""A Flask service whose view pushes and answers once the request is queued.

Run it: ``python examples/flask_service.py 8000``, then
``curl -i -d '{}' -H 'x-pollin-secret: change-me' http://127.0.0.1:8000/hooks/orders``
"""

from __future__ import annotations

import signal
import sys

from flask import Flask, request
from werkzeug.serving import BaseWSGIServer, make_server

from pollin_actors import (
    Application,
    Callback,
    Endpoint,
    EndpointNotFound,
    InvalidValue,
    PollinError,
    Request,
    TooLarge,
    WrongSecret,
)
from pollin_actors.otp import OtpError

STATUS = {InvalidValue: 400, WrongSecret: 401, EndpointNotFound: 404, TooLarge: 413}


def new_inbox() -> Application:
    orders = Endpoint.new(["received", "processed"], ttl=0, id="orders", secret="change-me")
    return Application(endpoints=[orders])


def flask_service(inbox: Application) -> Flask:
    service = Flask("orders")
    service.config["MAX_CONTENT_LENGTH"] = inbox.settings.max_bytes

    @service.post("/hooks/<endpoint_id>")
    def receive(endpoint_id: str) -> tuple[dict[str, str], int]:
        # The secret is checked and not stored.
        headers = [pair for pair in request.headers if pair[0].lower() != "x-pollin-secret"]
        received = Request(headers, request.get_data())
        secret = request.headers.get("x-pollin-secret", "")
        try:
            # A sender's own id makes its second try a duplicate instead of a second callback.
            callback = Callback.new(received, id=request.headers.get("webhook-id"))
            pushed = inbox.callbacks.push(endpoint_id, callback, secret=secret, timeout=1.5).get()
        except OtpError:  # no answer in time, or the actor ended under it
            return {"error": "try again"}, 503
        except PollinError as error:
            return {"error": type(error).__name__}, STATUS.get(type(error), 503)
        return {"id": pushed.callback.id, "outcome": pushed.outcome}, 200

    @service.get("/queued/<endpoint_id>")
    def queued(endpoint_id: str) -> dict[str, int]:
        return {"queued": inbox.callbacks.count(endpoint_id).get()}

    return service


def new_server(inbox: Application, port: int) -> BaseWSGIServer:
    return make_server("127.0.0.1", port, flask_service(inbox), threaded=True)


def main(port: int = 8000) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    with new_inbox() as inbox:
        server = new_server(inbox, port)
        print(f"listening on http://127.0.0.1:{server.server_port}", flush=True)
        try:
            server.serve_forever()
        except KeyboardInterrupt:
            pass
        finally:
            server.server_close()
    print("stopped", flush=True)


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
