"""``pollin dead``: callbacks whose last attempt has failed."""

from __future__ import annotations

import argparse
from collections.abc import Callable

from pollin_actors.cli.callbacks import move_to
from pollin_actors.cli.errors import Gone, NotThere, UserError
from pollin_actors.cli.human import ago, size
from pollin_actors.cli.inbox import Inbox, Json
from pollin_actors.cli.options import Commands, Run, add_command, open_inbox, output_of
from pollin_actors.cli.output import Output, note

__all__ = ["add_parsers", "dead_letters"]


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    parser = commands.add_parser(
        "dead", help="list dead letters, try them again, or discard them", allow_abbrev=False
    )
    parser.description = (
        "Dead letters: callbacks whose last attempt has failed, and which are still in the phase "
        "that they were put into then."
    )
    below = parser.add_subparsers(metavar="ACTION", required=True)
    _add(below, "list", list_dead, "list them, with the reason of each")
    retry_ = _add(below, "retry", retry, "put them back into the phase in which they failed")
    _add_which(retry_)
    retry_.add_argument("--to", metavar="PHASE", help="into this phase instead")
    _add_which(_add(below, "discard", discard, "remove them from the queue"))


def _add(below: Commands, name: str, run: Run, help: str) -> argparse.ArgumentParser:
    parser = add_command(below, name, run, help)
    parser.add_argument("endpoint", metavar="ENDPOINT")
    parser.add_argument("--phase", help="only those in this phase")
    return parser


def _add_which(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("keys", metavar="KEY", nargs="*", help="these")
    parser.add_argument("--all", action="store_true", help="all of them")


def list_dead(arguments: argparse.Namespace) -> int:
    """List dead letters."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        found = dead_letters(inbox, arguments.endpoint, arguments.phase)
    if output.as_json:
        output.document({"dead": found})
    elif found:
        output.table(
            ("CALLBACK", "PHASE", "DIED", "ATTEMPTS", "SIZE", "BY", "REASON"),
            [_row(it["callback"], it["record"]) for it in found],
        )
    else:
        note(f"endpoint {arguments.endpoint!r} has no dead letters")
    return 0


def _row(callback: Json, record: Json) -> list[object]:
    return [
        callback["id"],
        callback["phase"],
        ago(record["at"]),
        record["attempt"],
        size(callback["size"]),
        record["by"],
        record["reason"],
    ]


def retry(arguments: argparse.Namespace) -> int:
    """Put dead letters back."""
    output = output_of(arguments)

    def put_back(inbox: Inbox, it: Json) -> None:
        callback, target = it["callback"], arguments.to or it["record"]["from_phase"]
        moved = move_to(inbox, arguments.endpoint, callback["id"], target, callback["phase"])
        if not output.as_json:
            output.line(f"retried  {arguments.endpoint}  {moved['id']}  {moved['phase']}")

    return _each(arguments, output, "retried", put_back)


def discard(arguments: argparse.Namespace) -> int:
    """Remove dead letters."""
    output = output_of(arguments)

    def remove(inbox: Inbox, it: Json) -> None:
        query = {"key": it["callback"]["id"]}
        # Listing many takes a while: what somebody has put back meanwhile is no dead letter.
        phase = inbox.ask("fetch", arguments.endpoint, query=query)["phase"]
        if phase != it["callback"]["phase"]:
            raise Gone(f"callback {query['key']!r} was put into phase {phase!r} meanwhile")
        inbox.ask("delete_callback", arguments.endpoint, query=query)
        if not output.as_json:
            output.line(f"discarded  {arguments.endpoint}  {query['key']}")

    return _each(arguments, output, "discarded", remove)


def _each(
    arguments: argparse.Namespace, output: Output, word: str, do: Callable[[Inbox, Json], None]
) -> int:
    """Do something with each that is wanted: one that has gone meanwhile is no reason to leave the
    others, and is said. The exit code."""
    done, missed = [], 0
    with open_inbox(arguments) as inbox:
        for it in _wanted(inbox, arguments):
            try:
                do(inbox, it)
            except Gone as error:
                missed += 1
                note(f"pollin: {error}; it was left as it is")
            else:
                done.append(it["callback"]["id"])
    if output.as_json:
        output.document({word: done})
    # All that there are is all that there are still; what was named was to be there.
    return 1 if missed and arguments.keys else 0


def dead_letters(inbox: Inbox, endpoint_id: str, phase: str | None = None) -> list[Json]:
    """Dead letters, in the order in which they died: each the callback, and the record of it.

    The history tells which they are: as long as they are queued, so is their record, unless the
    endpoint keeps none.
    """
    records = {it["callback_id"]: it for it in inbox.all_records(endpoint_id, kinds=["dead"])}
    found = []
    for record in sorted(records.values(), key=lambda it: int(it["position"])):
        if phase is not None and record["to_phase"] != phase:
            continue
        try:
            query = {"key": record["callback_id"]}
            callback = inbox.ask("fetch", endpoint_id, query=query)
        except NotThere:
            continue  # somebody has taken it out of the queue
        if callback["phase"] == record["to_phase"]:
            found.append({"callback": callback, "record": record})
    return found


def _wanted(inbox: Inbox, arguments: argparse.Namespace) -> list[Json]:
    if bool(arguments.keys) == arguments.all:
        got = "both" if arguments.keys else "neither"
        raise UserError(f"expected KEY, one or more, or --all, got {got}")
    found = dead_letters(inbox, arguments.endpoint, arguments.phase)
    if arguments.all:
        if not found:
            note(f"endpoint {arguments.endpoint!r} has no dead letters")
        return found
    by_key = {it["callback"]["id"]: it for it in found}
    for key in arguments.keys:
        if key not in by_key:
            raise NotThere(
                f"callback {key!r} is no dead letter of endpoint {arguments.endpoint!r}: "
                "`pollin dead list` shows those there are; nothing was changed"
            )
    return [by_key[key] for key in dict.fromkeys(arguments.keys)]
