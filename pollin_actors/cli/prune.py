"""``pollin prune`` and ``pollin migrate``: keeping a backend in order."""

from __future__ import annotations

import argparse
import time

from pollin_actors.backends.interface import Backend, StoredVersion
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

__all__ = ["add_parsers", "shown_version", "version_of"]


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


def migrate(arguments: argparse.Namespace) -> int:
    """Bring a schema up to date."""
    output = output_of(arguments)
    url = backend_url(arguments)
    backend = durable_backend(url, create=True)
    before = version_of(backend)
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
    after = version_of(backend)
    shown = without_credentials(url)
    # None where it cannot be told: the backend does not say.
    was, is_now = (None if it is None else it.found for it in (before, after))
    created = before is not None and was is None
    if output.as_json:
        document = {"backend": shown, "created": created, "before": was, "after": is_now}
        output.document(document)
        return 0
    known = "" if is_now is None else f", {shown_version(is_now)}"
    if created:
        done = f"made{known}"
    elif was is None or was == is_now:
        done = f"up to date{known}"
    else:
        done = f"brought from {shown_version(was)} to {is_now}"
    output.line(f"{shown}  {done}")
    return 0


def version_of(backend: Backend) -> StoredVersion | None:
    """The version of what a backend stores; None if it does not say."""
    look = getattr(backend, "stored_version", None)
    if look is None:
        return None
    try:
        found = look()
    except (PollinError, OtpError):
        return None  # what is wrong is said when it is opened
    return found if isinstance(found, StoredVersion) else None


def shown_version(version: int | str) -> str:
    """A version in words."""
    return f"schema version {version}" if isinstance(version, int) else version
