"""``pollin push``, ``pop``, ``fetch``, ``list``, ``count`` and ``phase``."""

from __future__ import annotations

import argparse
import sys
from base64 import b64encode
from pathlib import Path
from typing import Any

from pollin_actors.cli.errors import NotThere, UserError
from pollin_actors.cli.human import now_ns, read_duration
from pollin_actors.cli.inbox import Inbox, Json
from pollin_actors.cli.options import Commands, add_command, open_inbox, output_of, positive, whole
from pollin_actors.cli.output import note
from pollin_actors.cli.shown import body_of, show_callback, show_callbacks

__all__ = ["add_parsers", "add_reading", "read_body", "read_file", "read_headers"]


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    push_ = add_command(commands, "push", push, "put a callback into an endpoint")
    push_.add_argument("endpoint", metavar="ENDPOINT")
    add_reading(push_)
    push_.add_argument(
        "--id", help="of the callback; a known one adds nothing (default: a new one)"
    )
    push_.add_argument("--phase", help="it starts in (default: the first of the endpoint)")
    push_.add_argument("--parent", metavar="KEY", help="the callback that it is a sub event of")
    push_.add_argument("--ordering-key", metavar="TEXT", help="taken in order with others of it")
    push_.add_argument(
        "--delay", metavar="DURATION", help="not available before that has passed, such as 15m"
    )

    pop_ = add_command(
        commands,
        "pop",
        pop,
        "take a callback out of the queue",
        "Take callbacks out of the queue: the oldest that is available, the one of KEY, or several "
        "(--limit). At most once: what was taken and then not read is gone.",
    )
    pop_.add_argument("endpoint", metavar="ENDPOINT")
    pop_.add_argument("key", metavar="KEY", nargs="?", help="of one callback")
    pop_.add_argument("--phase", help="only those in this phase")
    pop_.add_argument("--limit", type=positive, help="how many at most, up to 1000")
    pop_.add_argument("--body", action="store_true", help="write the body, and only that")

    fetch_ = add_command(
        commands,
        "fetch",
        fetch,
        "look at a callback",
        "Look at a callback: the oldest, or the one of KEY. Nothing is taken.",
    )
    fetch_.add_argument("endpoint", metavar="ENDPOINT")
    fetch_.add_argument("key", metavar="KEY", nargs="?")
    fetch_.add_argument("--kept", action="store_true", help="also if it has left the queue")
    fetch_.add_argument("--body", action="store_true", help="write the body, and only that")

    list_ = add_command(commands, "list", list_callbacks, "list what is queued in an endpoint")
    list_.add_argument("endpoint", metavar="ENDPOINT")
    list_.add_argument("--phase", help="only what is in this phase")
    list_.add_argument("--limit", type=positive, default=100, help="at most (default: 100)")
    list_.add_argument("--offset", type=whole, default=0, help="how many to leave out before")
    list_.add_argument("--newest", action="store_true", help="the newest first")

    count_ = add_command(commands, "count", count, "say how many callbacks are queued")
    count_.add_argument("endpoint", metavar="ENDPOINT")
    count_.add_argument("--phase", help="only those in this phase")

    phase_ = add_command(commands, "phase", move, "move a callback into another phase")
    phase_.add_argument("endpoint", metavar="ENDPOINT")
    phase_.add_argument("key", metavar="KEY")
    phase_.add_argument("phase", metavar="PHASE")
    phase_.add_argument("--expect", metavar="PHASE", help="only if it is in this one")


def add_reading(parser: argparse.ArgumentParser) -> None:
    """The options that say a body and its headers."""
    parser.add_argument(
        "file", metavar="FILE", nargs="?", help="the body; - is standard input (default: -)"
    )
    parser.add_argument("--data", metavar="TEXT", help="the body itself, instead of a file")
    parser.add_argument(
        "--header", "-H", metavar="'NAME: VALUE'", action="append", default=[], help="one header"
    )


# -- the commands ----------------------------------------------------------------------------------


def push(arguments: argparse.Namespace) -> int:
    """Push what a file or stdin holds."""
    output = output_of(arguments)
    fields: Json = {
        "id": arguments.id,
        "phase": arguments.phase,
        "parent": arguments.parent,
        "ordering_key": arguments.ordering_key,
        "headers": [[name, value] for name, value in read_headers(arguments.header)],
    }
    if arguments.delay is not None:
        delay = read_duration(arguments.delay, "--delay")
        fields["not_before"] = now_ns() + round(delay * 1e9)
    body = read_body(arguments)
    try:
        fields["body"] = body.decode()
    except UnicodeDecodeError:
        fields["body_base64"] = b64encode(body).decode("ascii")
    with open_inbox(arguments) as inbox:
        pushed = inbox.ask("push", arguments.endpoint, body=fields)
    if output.as_json:
        output.document(pushed)
    else:
        callback = pushed["callback"]
        output.line(f"{pushed['outcome']}  {arguments.endpoint}  {callback['id']}")
    return 0


def pop(arguments: argparse.Namespace) -> int:
    """Take callbacks out of the queue and show them."""
    body: Json = {"key": arguments.key, "phase": arguments.phase, "limit": arguments.limit}
    if arguments.phase is not None and arguments.limit is None:
        body["limit"] = 1
    if arguments.key is not None and (arguments.phase or arguments.limit):
        raise UserError("expected KEY, or --phase and --limit, got both: leave one of them out")
    if arguments.body and (arguments.limit or 1) > 1:
        raise UserError("--body: expected one callback, got a --limit of more")
    with open_inbox(arguments) as inbox:
        found = inbox.ask("pop", arguments.endpoint, body=body)["callbacks"]
    if not found and not arguments.json:
        what = f"callback {arguments.key!r}" if arguments.key is not None else "callback"
        raise NotThere(f"endpoint {arguments.endpoint!r} has no {what} that is available")
    _show(arguments, found)
    return 0 if found else 1


def fetch(arguments: argparse.Namespace) -> int:
    """Show a callback."""
    if arguments.kept and arguments.key is None:
        raise UserError("--kept: expected a KEY with it, got none")
    with open_inbox(arguments) as inbox:
        if arguments.key is None:
            found = inbox.ask("fetch_head", arguments.endpoint)["callbacks"]
        else:
            query = {"key": arguments.key, "kept": arguments.kept}
            found = [inbox.ask("fetch", arguments.endpoint, query=query)]
    if not found:
        raise NotThere(f"endpoint {arguments.endpoint!r} has no callback")
    if arguments.json and not arguments.body:
        output_of(arguments).document(found[0])
    else:
        _show(arguments, found)
    return 0


def list_callbacks(arguments: argparse.Namespace) -> int:
    """List what is queued."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        found = list(
            inbox.queued(
                arguments.endpoint,
                arguments.phase,
                arguments.offset,
                arguments.limit,
                arguments.newest,
            )
        )
        total = inbox.count(arguments.endpoint, arguments.phase)
    if output.as_json:
        output.document({"callbacks": found, "count": total})
    elif found:
        show_callbacks(output, found)
        if total > len(found):
            note(f"{len(found)} of {total}: see --limit and --offset")
    else:
        note(f"nothing is queued{_in(arguments.phase)}")
    return 0


def count(arguments: argparse.Namespace) -> int:
    """Say how many are queued."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        found = inbox.count(arguments.endpoint, arguments.phase)
    output.document({"count": found}) if output.as_json else output.line(str(found))
    return 0


def move(arguments: argparse.Namespace) -> int:
    """Move a callback into another phase."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        moved = move_to(inbox, arguments.endpoint, arguments.key, arguments.phase, arguments.expect)
    if output.as_json:
        output.document(moved)
    else:
        output.line(f"moved  {arguments.endpoint}  {moved['id']}  {moved['phase']}")
    return 0


def move_to(inbox: Inbox, endpoint_id: str, key: str, phase: str, expect: str | None) -> Json:
    """Move a callback into another phase; the callback as it is then."""
    body = {"phase": phase, "expect": expect}
    moved: Json = inbox.ask("move_callback", endpoint_id, query={"key": key}, body=body)
    return moved


def _show(arguments: argparse.Namespace, callbacks: list[Json]) -> None:
    output = output_of(arguments)
    if arguments.body:
        for callback in callbacks:
            body = body_of(callback)
            if body is None:
                raise NotThere(f"callback {callback['id']!r} has no body: it holds another value")
            output.bytes(body)
    elif output.as_json:
        output.document({"callbacks": callbacks})
    elif len(callbacks) == 1:
        show_callback(output, arguments.endpoint, callbacks[0])
    else:
        show_callbacks(output, callbacks)


def _in(phase: str | None) -> str:
    return f" in phase {phase!r}" if phase is not None else ""


# -- what is pushed, signed or verified ------------------------------------------------------------


def read_body(arguments: argparse.Namespace) -> bytes:
    """The body that the options of ``add_reading`` say.

    Raises:
        UserError: there are two, or the file cannot be read.
    """
    if arguments.data is not None:
        if arguments.file is not None:
            raise UserError("expected FILE or --data, got both: leave one of them out")
        # As the shell gave it: bytes that are no text are kept.
        return str(arguments.data).encode("utf-8", "surrogateescape")
    return read_file(arguments.file or "-")


def read_file(name: str) -> bytes:
    """What a file holds, or stdin for ``-``.

    Raises:
        UserError: it cannot be read.
    """
    if name == "-":
        stream: Any = sys.stdin
        if stream is None:
            raise UserError("there is no standard input: give a FILE")
        if stream.isatty():
            note("reading from the terminal: Ctrl-D ends it")
        data: bytes = stream.buffer.read()
        return data
    try:
        return Path(name).read_bytes()
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or "it cannot be the name of one"
        raise UserError(f"file {name!r} cannot be read ({reason}): give another") from None


def read_headers(given: list[str]) -> list[tuple[str, str]]:
    """Headers as curl takes them.

    Raises:
        UserError: one has no name.
    """
    pairs = []
    for text in given:
        name, colon, value = text.partition(":")
        if not colon or not name.strip() or "\n" in text or "\r" in text:
            raise UserError(
                f"--header: expected 'Name: value' on one line, got {len(text)} characters of "
                "another kind"
            )
        pairs.append((name.strip(), value.strip()))
    return pairs
