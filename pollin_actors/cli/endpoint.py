"""``pollin endpoint``: the endpoints, one by one."""

from __future__ import annotations

import argparse
import contextlib
import sys
from typing import Any

from pollin_actors.cli.errors import NotThere, UserError
from pollin_actors.cli.human import ago, duration, read_duration, size, when
from pollin_actors.cli.inbox import Inbox, Json, only_server
from pollin_actors.cli.options import (
    Commands,
    Run,
    add_command,
    open_inbox,
    output_of,
    positive,
    seconds,
    whole,
)
from pollin_actors.cli.output import Output, note
from pollin_actors.resources import (
    DEFAULT_DEDUP_FOR_S,
    DEFAULT_KEEP_FOR_S,
    DEFAULT_PHASES,
    DEFAULT_TTL_MS,
)

__all__ = ["add_parsers", "phase_names"]


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    parser = commands.add_parser(
        "endpoint", help="list, create, show and change endpoints", allow_abbrev=False
    )
    parser.description = "List, create, show and change endpoints."
    below = parser.add_subparsers(metavar="ACTION", required=True)
    add_command(below, "list", list_endpoints, "list the endpoints, and how they stand")
    _add_create(below)
    _add(below, "show", show, "show an endpoint: settings, phases, how it stands")
    rotate_ = _add(
        below,
        "rotate",
        rotate,
        "give it another secret",
        "Give an endpoint another secret. It is shown once; the present one is valid for a while.",
    )
    _add_secret(rotate_)
    rotate_.add_argument(
        "--overlap",
        metavar="DURATION",
        default="1d",
        help="for how long the present secret stays valid; 0: not at all (default: 1d)",
    )
    _add_handlers(_add(below, "pause", pause, "have its handlers take no more (a server's only)"))
    _add_handlers(_add(below, "resume", resume, "have its handlers go on (a server's only)"))
    _add(below, "disable", disable, "refuse requests to it, with 410")
    _add(below, "enable", enable, "take requests to it again")
    delete_ = _add(below, "delete", delete, "remove it, with its callbacks and their history")
    delete_.add_argument("--force", action="store_true", help="also if something is queued")


def _add(
    below: Commands, name: str, run: Run, help: str, description: str = ""
) -> argparse.ArgumentParser:
    parser = add_command(below, name, run, help, description)
    parser.add_argument("endpoint", metavar="ENDPOINT")
    return parser


def _add_create(below: Commands) -> None:
    parser = add_command(
        below,
        "create",
        create,
        "create an endpoint",
        "Create an endpoint. A secret that is generated is shown this once, and never again.",
    )
    parser.add_argument("endpoint", metavar="ENDPOINT")
    parser.add_argument(
        "--phases",
        metavar="NAMES",
        help=f"in order, separated by commas (default: {','.join(DEFAULT_PHASES)})",
    )
    for option, what, default in (
        ("--ttl", "until what is queued expires; 0: it never does", DEFAULT_TTL_MS / 1000),
        ("--dedup-for", "for which ids are remembered", DEFAULT_DEDUP_FOR_S),
        ("--keep-for", "for which what has left is kept, with history", DEFAULT_KEEP_FOR_S),
    ):
        shown = f"{what} (default: {duration(default)})"
        parser.add_argument(option, metavar="DURATION", help=shown)
    parser.add_argument(
        "--capacity", type=whole, metavar="N", help="callbacks at most (default: any)"
    )
    parser.add_argument(
        "--capacity-bytes", type=whole, metavar="N", help="bytes at most (default: any)"
    )
    parser.add_argument(
        "--intake",
        metavar="SCHEME",
        help="how requests are signed, such as github or stripe?tolerance=60 (default: secret)",
    )
    parser.add_argument(
        "--verify",
        choices=["first", "later"],
        help="before they are stored, or after they were answered (default: first)",
    )
    parser.add_argument(
        "--content-type",
        metavar="TYPE",
        action="append",
        help="of requests, several times for several; others are refused (default: any)",
    )
    parser.add_argument(
        "--rate", type=seconds, metavar="N", help="requests per second (default: any)"
    )
    parser.add_argument("--burst", type=positive, metavar="N", help="requests at once")
    _add_secret(parser)


def _add_secret(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--secret",
        help="the secret; - reads it from stdin, so that no list of processes shows it "
        "(default: a new one)",
    )


def _add_handlers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--handler", metavar="NAME", help="only this one of its handlers")


# -- the commands ----------------------------------------------------------------------------------


def list_endpoints(arguments: argparse.Namespace) -> int:
    """List all."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        found = []
        for it in inbox.endpoints():
            with contextlib.suppress(NotThere):  # it was deleted meanwhile
                found.append({**it, "stats": inbox.stats(it["id"])})
    if output.as_json:
        output.document({"endpoints": found})
    elif found:
        output.table(
            ("ENDPOINT", "QUEUED", "CLAIMED", "DELAYED", "EXPIRED", "SIZE", "SIGNED", "PHASES"),
            [_row(endpoint) for endpoint in found],
        )
    else:
        note("there are no endpoints: `pollin endpoint create` makes one")
    return 0


def _row(endpoint: Json) -> list[object]:
    stats, intake = endpoint["stats"], endpoint["intake"]
    signed = intake["scheme"].partition("?")[0]
    return [
        endpoint["id"],
        *(stats[name] for name in ("queued", "claimed", "delayed", "expired")),
        size(stats["size"]),
        signed if intake["enabled"] else f"{signed}, disabled",
        ", ".join(endpoint["phases"]),
    ]


def create(arguments: argparse.Namespace) -> int:
    """Create one; show its secret if that was generated."""
    output = output_of(arguments)
    intake = {
        "scheme": arguments.intake,
        "verify": arguments.verify,
        "content_types": arguments.content_type,
        "rate": arguments.rate,
        "burst": arguments.burst,
    }
    given = {name: value for name, value in intake.items() if value is not None}
    ttl = _duration(arguments.ttl, "--ttl")
    fields = {
        "id": arguments.endpoint,
        "secret": _secret(arguments),
        "phases": None if arguments.phases is None else phase_names(arguments.phases),
        "ttl": None if ttl is None else round(ttl * 1000),
        "dedup_for": _duration(arguments.dedup_for, "--dedup-for"),
        "keep_for": _duration(arguments.keep_for, "--keep-for"),
        "capacity": arguments.capacity,
        "capacity_bytes": arguments.capacity_bytes,
        "intake": given or None,
    }
    with open_inbox(arguments, create=True) as inbox:
        answer = inbox.ask("create_endpoint", body=fields)
    _show_secret(output, "created", answer)
    return 0


def rotate(arguments: argparse.Namespace) -> int:
    """Give one another secret; show it if it was generated."""
    output = output_of(arguments)
    body = {
        "secret": _secret(arguments),
        "overlap": read_duration(arguments.overlap, "--overlap"),
    }
    with open_inbox(arguments) as inbox:
        answer = inbox.ask("rotate_secret", arguments.endpoint, body=body)
    _show_secret(output, "rotated", answer)
    return 0


def show(arguments: argparse.Namespace) -> int:
    """Show all that is known of one."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        endpoint = inbox.endpoint(arguments.endpoint)
        stats = inbox.stats(arguments.endpoint)
        phases = {name: inbox.count(arguments.endpoint, name) for name in endpoint["phases"]}
    if output.as_json:
        output.document({"endpoint": endpoint, "stats": stats, "phases": phases})
    else:
        _show(output, endpoint, stats, phases)
    return 0


def disable(arguments: argparse.Namespace) -> int:
    """Have requests refused."""
    return _enable(arguments, False)


def enable(arguments: argparse.Namespace) -> int:
    """Have requests taken."""
    return _enable(arguments, True)


def _enable(arguments: argparse.Namespace, enabled: bool) -> int:
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        body = {"intake": {"enabled": enabled}}
        endpoint = inbox.ask("change_endpoint", arguments.endpoint, body=body)
    if output.as_json:
        output.document(endpoint)
    else:
        output.line(f"{'enabled' if enabled else 'disabled'}  {endpoint['id']}")
    return 0


def pause(arguments: argparse.Namespace) -> int:
    """Have handlers take no more."""
    return _control(arguments, "pause")


def resume(arguments: argparse.Namespace) -> int:
    """Have handlers go on."""
    return _control(arguments, "resume")


def _control(arguments: argparse.Namespace, what: str) -> int:
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        if not inbox.remote:
            raise only_server(
                f"`endpoint {what}`",
                "handlers belong to a process, and a backend has none. To have requests refused "
                "use `pollin endpoint disable`",
            )
        names = _handlers(inbox, arguments.endpoint, arguments.handler)
        infos = [inbox.ask(f"{what}_handler", query={"name": name}) for name in names]
    if output.as_json:
        output.document({"handlers": infos})
    else:
        output.table(
            ("HANDLER", "STATE", "HELD"), [(it["name"], it["state"], it["held"]) for it in infos]
        )
    return 0


def _handlers(inbox: Inbox, endpoint_id: str, wanted: str | None) -> list[str]:
    inbox.endpoint(endpoint_id)
    found = inbox.ask("list_handlers")["handlers"]
    names = [it["name"] for it in found if it["endpoint_id"] == endpoint_id]
    if wanted is not None and wanted not in names:
        known = ", ".join(map(repr, names)) or "none"
        raise NotThere(
            f"endpoint {endpoint_id!r} has no handler {wanted!r} there: expected one of {known}"
        )
    if not names:
        raise NotThere(f"the server has no handler of endpoint {endpoint_id!r}: nothing to do")
    return names if wanted is None else [wanted]


def delete(arguments: argparse.Namespace) -> int:
    """Remove one."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        queued = inbox.count(arguments.endpoint)
        if queued and not arguments.force:
            raise UserError(
                f"endpoint {arguments.endpoint!r} holds {queued} callbacks, and was left as it is: "
                "say --force to remove them, too"
            )
        inbox.ask("delete_endpoint", arguments.endpoint)
    if output.as_json:
        output.document({"deleted": arguments.endpoint, "queued": queued})
    else:
        output.line(f"deleted  {arguments.endpoint}")
    return 0


# -- what is given and shown -----------------------------------------------------------------------


def phase_names(text: str) -> list[str]:
    """Names of phases, separated by commas."""
    return [name.strip() for name in text.split(",")]


def _secret(arguments: argparse.Namespace) -> str | None:
    if arguments.secret != "-":
        return None if arguments.secret is None else str(arguments.secret)
    stream: Any = sys.stdin
    line = "" if stream is None else str(stream.readline()).rstrip("\r\n")
    if not line:
        raise UserError("--secret: expected a secret as the first line of stdin, got nothing")
    return line


def _duration(text: str | None, option: str) -> float | None:
    return None if text is None else read_duration(text, option)


def _show_secret(output: Output, done: str, answer: Json) -> None:
    if output.as_json:
        output.document(answer)
        return
    endpoint = answer["endpoint"]
    output.line(f"{done}  {endpoint['id']}")
    if "secret" in answer:
        output.line(f"secret  {answer['secret']}")
        note("the secret is shown this once: give it to the sender now")
    else:
        output.line(f"secret  as given, fingerprint {endpoint['secret_fingerprint']}")


def _show(output: Output, endpoint: Json, stats: Json, phases: dict[str, int]) -> None:
    intake = endpoint["intake"]
    consumed = set(endpoint["consumes"])
    pairs: list[tuple[str, object]] = [
        ("endpoint", endpoint["id"]),
        ("created", when(endpoint["created_at"])),
        ("queued", f"{stats['queued']} callbacks, {size(stats['size'])}"),
        ("claimed", stats["claimed"]),
        ("delayed", stats["delayed"]),
        ("expired", stats["expired"]),
        ("ttl", duration(endpoint["ttl"] / 1000) if endpoint["ttl"] else "for ever"),
        ("dedup for", duration(endpoint["dedup_for"])),
        ("keep for", duration(endpoint["keep_for"])),
        ("capacity", _limit(endpoint["capacity"], "callbacks")),
        ("capacity bytes", _limit(endpoint["capacity_bytes"], "bytes")),
        ("signed", intake["scheme"]),
        ("verified", intake["verify"]),
        ("takes requests", "yes" if intake["enabled"] else "no, 410 (disabled)"),
        ("content types", ", ".join(intake["content_types"]) or "any"),
        ("rate", "any" if intake["rate"] is None else f"{intake['rate']:g} per second"),
        ("secret", f"fingerprint {endpoint['secret_fingerprint']}"),
    ]
    for old in endpoint["old_secrets"]:
        pairs.append(("old secret", f"fingerprint {old['fingerprint']}, until {ago(old['until'])}"))
    output.fields(pairs)
    output.line()
    output.table(
        ("PHASE", "QUEUED", ""),
        [(name, number, "consumed" if name in consumed else "") for name, number in phases.items()],
    )


def _limit(value: int | None, what: str) -> str:
    return "any" if value is None else f"{value} {what}"
