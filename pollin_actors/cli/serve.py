"""``pollin serve``: an inbox with a receiver in front, ready in one line."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from types import FrameType
from typing import Any, Protocol, cast

import structlog

from pollin_actors.application import Application
from pollin_actors.cli.banner import show_banner, url_of
from pollin_actors.cli.errors import UserError, of_error
from pollin_actors.cli.options import DEFAULT_BACKEND
from pollin_actors.cli.printer import Arrived, Drain, Flush, Printer
from pollin_actors.cli.screen import Screen
from pollin_actors.errors import InvalidValue, MissingExtra, PollinError
from pollin_actors.otp import ChildSpec, OtpError
from pollin_actors.resources import Endpoint, Intake, PushResult
from pollin_actors.web import admin, asgi, dashboard, metrics
from pollin_actors.web.answers import UNAVAILABLE

__all__ = ["add_parser"]

PRINTER = "pollin.printer"
ADMIN = "/admin"
DASHBOARD = "/dashboard"
METRICS = "/metrics"
GRACE_S = 5
FLUSH_S = 2.0

# What the errors of the library call by its names in Python.
OPTIONS = {
    "Endpoint.id": "--endpoint",
    "Endpoint.phases": "--phases",
    "Endpoint.secret": "--secret",
    "Endpoint.ttl": "--ttl",
    "SqliteBackend.path": "--backend",
    "Intake.scheme": "--intake",
    "backend": "--backend",
    "busy_timeout": "--backend: busy_timeout",
    "cluster": "--backend: cluster",
    "db": "--backend: db",
    "durability": "--backend: durability",
    "prefix": "--backend: prefix",
    "timeout": "--backend: timeout",
    "lock_timeout": "--backend: lock_timeout",
    "schema": "--backend: schema",
    "synchronous_commit": "--backend: synchronous_commit",
    "scheme": "--intake",
    "secret": "--secret",
    "token": "--admin-token",
}


class _Server(Protocol):
    """What is used of uvicorn's server; uvicorn itself comes with an extra only."""

    should_exit: bool
    force_exit: bool

    def run(self, sockets: list[socket.socket]) -> None: ...


def add_parser(commands: argparse._SubParsersAction[Any]) -> None:
    """Add the command and its options to the parser of ``pollin``."""
    parser = commands.add_parser(
        "serve",
        help="receive webhooks over HTTP and show them",
        description="Receive webhooks over HTTP, queue them, and show what arrives.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--endpoint",
        metavar="ID",
        action="append",
        help="an endpoint to receive for; may be given several times (default: webhooks)",
        default=argparse.SUPPRESS,
    )
    parser.add_argument("--host", default="127.0.0.1", help="the address to listen on")
    parser.add_argument(
        "--port", type=_port, default=8080, help="the port to listen on; 0: any that is free"
    )
    parser.add_argument(
        "--backend",
        metavar="URL",
        help="where callbacks are kept; memory:// keeps them until the command ends; else that of "
        f"the environment variable POLLIN_BACKEND (default: {DEFAULT_BACKEND})",
        # It may hold a password, which no help may show.
        default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--phases",
        metavar="NAMES",
        default="received,processed",
        help="the phases of a new endpoint, in order, separated by commas",
    )
    parser.add_argument(
        "--ttl",
        metavar="MILLISECONDS",
        type=int,
        default=0,
        help="how long a new endpoint keeps callbacks; 0: for ever",
    )
    parser.add_argument(
        "--secret",
        help="what senders have to show; else that of the environment variable POLLIN_SECRET, "
        "else the endpoint's own, else a new one",
        default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--intake",
        metavar="SCHEME",
        help="how requests to a new endpoint are signed, such as github or stripe?tolerance=60 "
        "(default: secret)",
        default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--admin-token",
        metavar="TOKEN",
        help=f"have the admin API below {ADMIN}, for who shows this token, and the dashboard "
        f"below {DASHBOARD}, for who logs in with it; else that of the "
        "environment variable POLLIN_ADMIN_TOKEN, else there is none",
        default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--metrics",
        action="store_true",
        help=f"have metrics for Prometheus (extra prometheus) at GET {METRICS}, for whoever can "
        "reach it: they tell which endpoints there are",
        default=argparse.SUPPRESS,
    )
    parser.add_argument(
        "--keep", action="store_true", help="leave callbacks in the queue instead of popping them"
    )
    parser.add_argument("--json", action="store_true", help="show it as lines of JSON")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM.

    Raises:
        UserError: an option has to be changed, or something is missing.
    """
    screen = Screen(sys.stdout)
    url = getattr(arguments, "backend", None) or os.environ.get("POLLIN_BACKEND") or DEFAULT_BACKEND
    try:
        secret, endpoints = _endpoints(arguments)
        app = Application(
            url,
            children=[
                ChildSpec(
                    id=PRINTER,
                    name=PRINTER,
                    start=lambda: Printer(app, screen, arguments.keep, arguments.json),
                )
            ],
        )
        token = getattr(arguments, "admin_token", None) or os.environ.get("POLLIN_ADMIN_TOKEN")
        for path, what in {ADMIN: "admin API", DASHBOARD: "dashboard"}.items() if token else ():
            if any(endpoint.id == path[1:] for endpoint in endpoints):
                where = f"--endpoint: {path[1:]!r} is where the {what} is"
                raise UserError(f"{where}: choose another id")
        application = asgi(app, on_received=_announce(app))
        if hasattr(arguments, "metrics"):
            application = with_metrics(application, app)
        server = _server(_answering(with_admin(application, app, token) if token else application))
        with _listen(arguments.host, arguments.port) as sock, _stopped_by_signals(server):
            _configure_log()
            try:
                app.start()
                signed = hasattr(arguments, "intake")
                endpoints = [_ensure(app, endpoint, secret, signed) for endpoint in endpoints]
                paths = {"admin": ADMIN, "dashboard": DASHBOARD} if token else {}
                if hasattr(arguments, "metrics"):
                    paths["metrics"] = METRICS
                show_banner(screen, sock, arguments, url, endpoints, paths)
                for endpoint in endpoints:
                    app.tell(PRINTER, Drain(endpoint.id, time.time_ns()))
                server.run(sockets=[sock])
                _flush(app)
            finally:
                app.stop()
    except InvalidValue as error:
        option = OPTIONS.get(error.name, error.name)
        hint = f"; {error.hint}" if error.hint else ""
        raise UserError(f"{option}: expected {error.expected}, got {error.got}{hint}") from None
    except (PollinError, OtpError) as error:
        raise of_error(error) from None
    screen.line(json.dumps({"event": "stopped"}) if arguments.json else "stopped")
    return 0


# -- what is asked for -----------------------------------------------------------------------------


def _port(text: str) -> int:
    if not text.isdecimal() or not text.isascii() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"expected a number from 0 to 65535, got {text!r}")
    return int(text)


def _endpoints(arguments: argparse.Namespace) -> tuple[str | None, list[Endpoint]]:
    """The secret that was given, if any, and the endpoints as they are created if need be."""
    secret = getattr(arguments, "secret", None) or os.environ.get("POLLIN_SECRET") or None
    if getattr(arguments, "secret", None) == "":
        raise InvalidValue("--secret", "a text that is not empty", "an empty one")
    if secret is not None and (not secret.isprintable() or secret != secret.strip()):
        raise InvalidValue(
            "--secret",
            "printable characters without white space at the ends",
            f"{len(secret)} characters with others",
            "senders show it in an HTTP header",
        )
    phases = [name.strip() for name in arguments.phases.split(",")]
    ids = dict.fromkeys(getattr(arguments, "endpoint", ["webhooks"]))
    intake = Intake(getattr(arguments, "intake", "secret"))
    return secret, [
        Endpoint.new(phases, arguments.ttl, id=id, secret=secret, intake=intake) for id in ids
    ]


def _ensure(
    app: Application, endpoint: Endpoint, secret: str | None, signed: bool = False
) -> Endpoint:
    """The endpoint as the backend has it; created if it has none."""
    stored = app.endpoints.find(endpoint.id).get()
    if stored is None:
        return app.endpoints.create(endpoint).get()
    if secret is not None and stored.secret != secret:
        raise UserError(
            f"endpoint {endpoint.id!r} exists and has another secret: leave out --secret and "
            "POLLIN_SECRET to use that one, or choose another --endpoint"
        )
    if signed and stored.intake.scheme != endpoint.intake.scheme:
        raise UserError(
            f"endpoint {endpoint.id!r} exists, signed as {stored.intake.scheme.text()}: leave out "
            "--intake to use that, or choose another --endpoint"
        )
    return stored


# -- serving ---------------------------------------------------------------------------------------


def _announce(app: Application) -> Callable[[str, PushResult], None]:
    def announce(endpoint_id: str, result: PushResult) -> None:
        app.tell(PRINTER, Arrived.of(endpoint_id, result))

    return announce


def with_admin(receiver: Any, app: Application, token: str) -> Any:
    """The receiver, and the admin API and the dashboard in front of it, below paths of their own.

    Raises:
        InvalidValue: the token is too short.
        MissingExtra: Starlette is not installed.
    """
    mounted = {ADMIN: admin(app, token=token), DASHBOARD: dashboard(app, token=token)}

    async def application(scope: Any, receive: Any, send: Any) -> None:
        path = scope.get("path", "")
        at = "/" + path[1:].partition("/")[0]
        service = mounted.get(at)
        if service is None:
            await receiver(scope, receive, send)
        else:
            # As a mount does it; and what is shown in the banner is the first page.
            first = {"path": f"{path}/"} if path == DASHBOARD else {}
            below = {"root_path": scope.get("root_path", "") + at}
            await service({**scope, **first, **below}, receive, send)

    return application


def with_metrics(receiver: Any, app: Application) -> Any:
    """The receiver, and a page to be scraped in front of it.

    Scrapers GET and senders POST: so an endpoint may have the page's name, and neither is in the
    other's way.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
    """
    page = metrics(app)

    async def application(scope: Any, receive: Any, send: Any) -> None:
        scraped = scope.get("path") == METRICS and scope.get("method") in ("GET", "HEAD")
        await (page if scraped else receiver)(scope, receive, send)

    return application


def _answering(receiver: Any) -> Any:
    """The receiver; who is cut off because the command stops is told to come again."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        begun = False

        async def noting(message: Any) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await receiver(scope, receive, noting)
        except asyncio.CancelledError:
            if begun:
                return  # what was to be told has been, or was cut off
            # The server cancels only what is not done at the end of its grace, and would report
            # a failure with a traceback.
            status, headers, body = UNAVAILABLE
            await send({"type": "http.response.start", "status": status, "headers": [*headers]})
            await send({"type": "http.response.body", "body": body})

    return application


def _flush(app: Application) -> None:
    """Let the printer show what was answered already; it may hang on a terminal that does."""
    with contextlib.suppress(PollinError, OtpError):
        app.ask(PRINTER, Flush(), timeout=FLUSH_S).get()


def _server(application: Any) -> _Server:
    try:
        import uvicorn
    except ImportError:
        raise MissingExtra("uvicorn", "server") from None

    class Server(uvicorn.Server):
        @contextlib.contextmanager
        def capture_signals(self) -> Iterator[None]:
            """Signals are the command's business: they stop more than this server."""
            yield

    config = uvicorn.Config(
        application,
        log_level="warning",
        access_log=False,
        lifespan="off",
        ws="none",
        # A sender that never finishes must not keep the command from stopping.
        timeout_graceful_shutdown=GRACE_S,
    )
    return cast("_Server", Server(config))


def _listen(host: str, port: int) -> socket.socket:
    """A socket that listens: before anything is started, so that failing costs nothing."""
    name = host.removeprefix("[").removesuffix("]")
    if not name:
        raise UserError("--host: expected an address or a name, got an empty text")
    try:
        found = socket.getaddrinfo(name, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, kind, protocol, _, address = found[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError) as error:
        raise UserError(f"--host: {host!r} cannot be used ({_reason(error)})") from None
    try:
        if os.name == "posix":
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise UserError(
            f"cannot listen on {url_of(name, port)} ({_reason(error)}): "
            "choose another --port (0 takes any that is free) or --host"
        ) from None
    return sock


def _reason(error: Exception) -> str:
    return (error.strerror if isinstance(error, OSError) else None) or "not a valid name"


class _Stop:
    """What the server is stopped with; its live pages and streams ask it, too."""

    def __init__(self, server: _Server) -> None:
        self._server = server

    @property
    def should_exit(self) -> bool:
        return self._server.should_exit

    def at_signal(self, number: int, frame: FrameType | None) -> None:
        if self._server.should_exit:
            self._server.force_exit = True
            signal.signal(number, signal.SIG_DFL)
        self._server.should_exit = True


@contextlib.contextmanager
def _stopped_by_signals(server: _Server) -> Iterator[None]:
    """SIGINT and SIGTERM stop the server; a second one hurries it, a third one kills."""

    stop = _Stop(server).at_signal
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler or signal.SIG_DFL)


def _configure_log() -> None:
    """A program, unlike a library, says where its log goes."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr.isatty(),
                # The others show the values of variables.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.INFO),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
