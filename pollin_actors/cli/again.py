"""``pollin replay``."""

from __future__ import annotations

import argparse

from pollin_actors.cli.human import read_moment
from pollin_actors.cli.options import Commands, add_command, open_inbox, output_of

__all__ = ["add_parsers"]

MOST_SHOWN = 20


def add_parsers(commands: Commands) -> None:
    """Add the command to the parser of ``pollin``."""
    parser = add_command(
        commands,
        "replay",
        replay,
        "push again what was received",
        "Push again what was received and is still queued or kept, as new callbacks that name "
        "their origin. With the same --name nothing is pushed twice.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT")
    parser.add_argument("keys", metavar="KEY", nargs="*", help="only these (default: all)")
    parser.add_argument("--since", metavar="TIME", help="created from then on; 2h: two hours ago")
    parser.add_argument("--until", metavar="TIME", help="created before")
    parser.add_argument("--into", metavar="ENDPOINT", help="another endpoint (default: the same)")
    parser.add_argument("--phase", help="that they start in (default: the first)")
    parser.add_argument("--name", help="of the replay (default: a new one)")
    parser.add_argument("--dry-run", action="store_true", help="push nothing; say what would be")


def replay(arguments: argparse.Namespace) -> int:
    """Push again."""
    output = output_of(arguments)
    body = {
        "keys": arguments.keys or None,
        "since": None if arguments.since is None else read_moment(arguments.since, "--since"),
        "until": None if arguments.until is None else read_moment(arguments.until, "--until"),
        "into": arguments.into,
        "phase": arguments.phase,
        "name": arguments.name,
        "dry_run": arguments.dry_run,
    }
    with open_inbox(arguments) as inbox:
        answer = inbox.ask("replay", arguments.endpoint, body=body)
    found = answer["matched"] > 0
    if output.as_json:
        output.document(answer)
        return 0 if found else 1
    pairs = [("replay", answer["name"]), ("matched", answer["matched"])]
    if arguments.dry_run:
        pairs.append(("pushed", "nothing: a dry run"))
    else:
        pairs += [("pushed", answer["pushed"]), ("duplicates", answer["duplicates"])]
    output.fields(pairs)
    for key in answer["ids"][:MOST_SHOWN]:
        output.line(f"  {key}")
    if answer["matched"] > MOST_SHOWN:
        output.line(f"  … {answer['matched'] - MOST_SHOWN} more")
    return 0 if found else 1
