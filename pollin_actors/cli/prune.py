"""``pollin prune`` and ``pollin migrate``: keeping a backend in order."""

from __future__ import annotations

import argparse
import contextlib
import sqlite3
import time
from typing import NamedTuple

from pollin_actors.backends.interface import Backend
from pollin_actors.backends.sqlite import SqliteBackend
from pollin_actors.backends.sqlite.migrations import MIGRATIONS
from pollin_actors.cli.errors import NotThere, UserError, of_error
from pollin_actors.cli.human import ago, now_ns, read_duration, size
from pollin_actors.cli.inbox import Inbox, Json
from pollin_actors.cli.local import durable_backend
from pollin_actors.cli.options import Commands, add_command, backend_url, open_inbox, output_of
from pollin_actors.cli.transfer import progress
from pollin_actors.cli.urls import without_credentials
from pollin_actors.errors import PollinError
from pollin_actors.messages import CheckReady
from pollin_actors.otp import OtpError, ReplyFuture

__all__ = ["Schema", "add_parsers", "schema_of"]


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    prune_ = add_command(
        commands,
        "prune",
        prune,
        "remove what has expired now, or what is older than you say",
        "Remove what has expired, and forget what was kept for long enough, now (of a backend "
        "only: a server does so every few seconds). With --older-than also remove what is queued "
        "for longer, claimed or not. What has left the queue is kept as long as the endpoint's "
        "keep_for said then, and cannot be forgotten earlier.",
    )
    prune_.add_argument("endpoints", metavar="ENDPOINT", nargs="*")
    prune_.add_argument("--older-than", metavar="DURATION", help="such as 7d; needs ENDPOINT")
    prune_.add_argument("--phase", help="only what is in this phase; needs --older-than")
    prune_.add_argument("--dry-run", action="store_true", help="remove nothing; say what would be")

    add_command(
        commands,
        "migrate",
        migrate,
        "bring the schema of a backend up to date",
        "Open a backend, make it if it is not there, and bring its schema up to date. Every start "
        "of an application does so, too.",
        server=False,
    )


# -- pruning ---------------------------------------------------------------------------------------


def prune(arguments: argparse.Namespace) -> int:
    """Sweep, and remove what is old."""
    output = output_of(arguments)
    if arguments.older_than is None:
        if arguments.endpoints or arguments.phase or arguments.dry_run:
            raise UserError("ENDPOINT, --phase and --dry-run: expected --older-than with them")
        before = None
    else:
        if not arguments.endpoints:
            raise UserError("--older-than: expected ENDPOINT with it, one or more, got none")
        before = now_ns() - round(read_duration(arguments.older_than, "--older-than") * 1e9)
    removed: list[Json] = []
    with open_inbox(arguments) as inbox:
        # A server sweeps by itself; only who asks for nothing else is told so.
        swept = None if inbox.remote and before is not None else inbox.sweep()
        if before is not None:
            for endpoint_id in dict.fromkeys(arguments.endpoints):
                removed += _remove(inbox, endpoint_id, before, arguments)
    if output.as_json:
        output.document({"expired": swept, "removed": removed, "dry_run": arguments.dry_run})
        return 0
    if swept is not None:
        output.line(f"{swept} expired")
    if before is not None:
        done = "would be removed" if arguments.dry_run else "removed"
        total = sum(it["size"] for it in removed)
        oldest = min((it["created_at"] for it in removed), default=None)
        shown = "" if oldest is None else f", {size(total)}, the oldest of {ago(oldest)}"
        output.line(f"{len(removed)} {done}{shown}")
    return 0


def _remove(
    inbox: Inbox, endpoint_id: str, before: int, arguments: argparse.Namespace
) -> list[Json]:
    removed = []
    with progress(f"looking through {endpoint_id!a}", inbox.count(endpoint_id), "callbacks") as on:
        # Not by age alone: what was loaded from a dump is older than its place in the queue.
        for callback in inbox.walk(endpoint_id):
            on(1)
            if callback["created_at"] >= before:
                continue
            if arguments.phase is not None and callback["phase"] != arguments.phase:
                continue
            if not arguments.dry_run:
                try:
                    query = {"key": callback["id"]}
                    inbox.ask("delete_callback", endpoint_id, query=query)
                except NotThere:
                    continue  # it has left by itself
            fields = {name: callback[name] for name in ("id", "phase", "created_at", "size")}
            removed.append({"endpoint_id": endpoint_id, **fields})
    return removed


# -- migrating -------------------------------------------------------------------------------------


class Schema(NamedTuple):
    """The version of a backend's schema."""

    version: int | None
    """None: nothing is there, or it has none that can be told."""
    latest: int | None
    """The one that this version of the package wants."""
    exists: bool


def migrate(arguments: argparse.Namespace) -> int:
    """Bring a schema up to date."""
    output = output_of(arguments)
    url = backend_url(arguments)
    backend = durable_backend(url, create=True)
    before = schema_of(backend)
    try:
        backend.open(time.time_ns)
        try:
            reply = backend.execute(CheckReady())
            if isinstance(reply, ReplyFuture):
                reply.get()
        finally:
            backend.close()
    except (PollinError, OtpError) as error:
        raise of_error(error) from None
    after = schema_of(backend)
    shown = without_credentials(url)
    if output.as_json:
        output.document(
            {
                "backend": shown,
                "created": not before.exists,
                "before": before.version,
                "after": after.version,
            }
        )
        return 0
    if not before.exists:
        done = "made" if after.version is None else f"made, schema version {after.version}"
    elif before.version == after.version:
        known = "" if after.version is None else f", schema version {after.version}"
        done = f"up to date{known}"
    else:
        done = f"brought from schema version {before.version} to {after.version}"
    output.line(f"{shown}  {done}")
    return 0


def schema_of(backend: Backend) -> Schema:
    """The version of a backend's schema as far as it can be told from outside."""
    if not isinstance(backend, SqliteBackend):
        return Schema(None, None, True)
    path = backend.path
    if not path.exists():
        return Schema(None, len(MIGRATIONS), False)
    # Nothing is written by looking, and what cannot be looked at says so when it is opened.
    with contextlib.suppress(sqlite3.Error, OSError):
        uri = f"{path.absolute().as_uri()}?mode=ro"
        with contextlib.closing(sqlite3.connect(uri, uri=True)) as connection:
            (version,) = connection.execute("PRAGMA user_version").fetchone()
            return Schema(int(version), len(MIGRATIONS), True)
    return Schema(None, len(MIGRATIONS), True)
