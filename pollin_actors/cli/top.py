"""``pollin top``: endpoints, handlers and actors, again and again."""

from __future__ import annotations

import argparse
import sys
import threading
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.cli.errors import NotThere, Unavailable
from pollin_actors.cli.human import ago, moment, now_ns, size
from pollin_actors.cli.inbox import PAGE, Inbox, Json
from pollin_actors.cli.options import (
    Commands,
    add_command,
    open_inbox,
    output_of,
    positive,
    seconds,
)
from pollin_actors.cli.output import Output, note
from pollin_actors.cli.screen import one_line

if TYPE_CHECKING:
    from rich.console import RenderableType

__all__ = ["Table", "add_parser", "look", "rendered", "tables"]


def add_parser(commands: Commands) -> None:
    """Add the command to the parser of ``pollin``."""
    parser = add_command(
        commands,
        "top",
        top,
        "show how the endpoints stand, and on a server its handlers and actors, live",
        "Show how the endpoints stand, and on a server its handlers and actors, again and again "
        "until Ctrl-C. Of each supervisor's actors 10 at most are shown, those first that do not "
        "run or have crashed. On a terminal, with rich (extra cli), in place. In JSON: one "
        "document a line.",
    )
    parser.add_argument(
        "--interval",
        type=seconds,
        metavar="SECONDS",
        default=1.0,
        help="between two looks (default: 1)",
    )
    parser.add_argument("--count", type=positive, metavar="N", help="end after so many looks")
    parser.add_argument("--once", action="store_true", help="look once")


class Table(NamedTuple):
    """What is shown in columns."""

    header: tuple[str, ...]
    rows: list[tuple[object, ...]]
    below: str = ""
    """A line that belongs to it."""


CHILDREN = 10
"""Of one supervisor that are shown."""

NO_ACTORS = "no actors here: they belong to a process; --server shows those of a running server"


def top(arguments: argparse.Namespace) -> int:
    """Look again and again."""
    output = output_of(arguments)
    looks = 1 if arguments.once else arguments.count
    with open_inbox(arguments) as inbox:
        live = _live() if not output.as_json and looks != 1 else None
        if live is None:
            _repeat(
                inbox, arguments.interval, looks, lambda now, before: _plain(output, now, before)
            )
        else:
            with live:
                _repeat(
                    inbox,
                    arguments.interval,
                    looks,
                    lambda now, before: live.update(
                        rendered(now["at"], tables(now, before)), refresh=True
                    ),
                )
    return 0


def _repeat(inbox: Inbox, interval: float, looks: int | None, show: Any) -> None:
    before: Json | None = None
    waiting = threading.Event()  # nobody sets it: an interrupt ends the wait
    away = False
    while True:
        try:
            now = look(inbox)
        except Unavailable as error:
            if before is None:
                raise
            if not away:
                note(f"pollin: {error}; trying again")
            away = True
        else:
            show(now, before)
            before, away = now, False
            if looks is not None:
                looks -= 1
        if looks == 0:
            return
        waiting.wait(interval)


def look(inbox: Inbox) -> Json:
    """How everything stands now."""
    endpoints = []
    for endpoint in inbox.endpoints():
        id = endpoint["id"]
        try:
            stats = inbox.stats(id)
            phases = {name: inbox.count(id, name) for name in endpoint["phases"]}
        except NotThere:
            continue  # it was deleted
        endpoints.append({"id": id, **stats, "phases": phases})
    # Those of other processes on a backend are not this one's to know.
    handlers = inbox.ask("list_handlers")["handlers"] if inbox.has_handlers else None
    actors = None
    if inbox.has_actors:
        page = inbox.ask("list_actors", query={"children": CHILDREN, "limit": PAGE})
        actors = {name: page[name] for name in ("total", "actors")}
    return {"at": now_ns(), "endpoints": endpoints, "handlers": handlers, "actors": actors}


def tables(now: Json, before: Json | None) -> list[Table]:
    """A look as tables: endpoints with what has changed since the look before, handlers, actors."""
    earlier = {it["id"]: it["queued"] for it in before["endpoints"]} if before else {}
    passed = (now["at"] - before["at"]) / 1e9 if before else 0.0
    rows: list[tuple[object, ...]] = []
    for it in now["endpoints"]:
        change = (it["queued"] - earlier[it["id"]]) / passed if it["id"] in earlier else 0.0
        phases = ", ".join(f"{name} {number}" for name, number in it["phases"].items())
        row = (it["id"], it["queued"], f"{change:+.1f}" if change else "")
        rows.append((*row, it["claimed"], it["delayed"], it["expired"], size(it["size"]), phases))
    header = ("ENDPOINT", "QUEUED", "PER S", "CLAIMED", "DELAYED", "EXPIRED", "SIZE", "PHASES")
    found = [Table(header, rows)]
    if now["handlers"]:
        held: list[tuple[object, ...]] = [
            (it["name"], it["endpoint_id"], it["phase"] or "(first)", it["state"], it["held"])
            for it in now["handlers"]
        ]
        found.append(Table(("HANDLER", "ENDPOINT", "PHASE", "STATE", "HELD"), held))
    if now["actors"] is not None:
        found.append(_actors(now["actors"], now["at"]))
    elif now["handlers"] is None:
        found[-1] = found[-1]._replace(below=NO_ACTORS)
    return found


def _actors(tree: Json, at: int) -> Table:
    rows: list[tuple[object, ...]] = []
    for it in tree["actors"]:
        crash = it["last_crash"]
        said = f"{ago(crash['at'], at)}  {crash['error']}" if crash else ""
        left = f" (and {it['left']} more)" if it["left"] else ""
        # What stands below another is moved in: a path would be too long.
        id = "  " * (len(it["path"]) - 1) + it["path"][-1] + left
        rows.append((id, it["state"], it["restarts"], it["mailbox"], said))
    total = tree["total"]
    below = f"{total['actors']} actors, {total['restarts']} restarts, {total['mailbox']} messages"
    return Table(("ACTOR", "STATE", "RESTARTS", "MAILBOX", "LAST CRASH"), rows, f"{below} wait")


def _plain(output: Output, now: Json, before: Json | None) -> None:
    if output.as_json:
        output.document(now)
        return
    for number, table in enumerate(tables(now, before)):
        if number:
            output.line()
        output.table(table.header, table.rows)
        if table.below:
            output.line(table.below)
    output.line(moment(now["at"]))


def rendered(at: int, found: Sequence[Table]) -> RenderableType:
    """Tables for rich. What is in them is text, and never markup."""
    from rich.box import SIMPLE_HEAD
    from rich.console import Group
    from rich.table import Table as Grid
    from rich.text import Text

    grids: list[RenderableType] = []
    for table in found:
        grid = Grid(box=SIMPLE_HEAD)
        for name in table.header:
            grid.add_column(Text(name), no_wrap=name not in ("PHASES", "LAST CRASH"))
        for row in table.rows:
            grid.add_row(*[Text(one_line(str(cell))) for cell in row])
        grids.append(grid)
        if table.below:
            grids.append(Text(f" {table.below}", style="dim"))
    return Group(*grids, Text(f" {moment(at)}", style="dim"))


def _live() -> Any:
    """What updates in place; None where there is no terminal, or no rich."""
    if sys.stdout is None or not sys.stdout.isatty():
        return None
    try:
        from rich.live import Live
    except ImportError:
        note('pollin: `pip install "pollin-actors[cli]"` has it updated in place')
        return None
    return Live(auto_refresh=False, screen=True)
