"""``pollin history`` and ``pollin tail``."""

from __future__ import annotations

import argparse
import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator

from pollin_actors.cli.errors import NotThere, Unavailable
from pollin_actors.cli.human import moment
from pollin_actors.cli.inbox import PAGE, Inbox, Json
from pollin_actors.cli.options import Commands, add_command, open_inbox, output_of, seconds, whole
from pollin_actors.cli.output import Output, note
from pollin_actors.cli.screen import one_line
from pollin_actors.cli.shown import record_row, show_records
from pollin_actors.records import Kind

__all__ = ["add_parsers", "end_of"]

_LARGEST = (1 << 63) - 1


def add_parsers(commands: Commands) -> None:
    """Add the commands to the parser of ``pollin``."""
    history_ = add_command(commands, "history", history, "tell what has happened to a callback")
    history_.add_argument("endpoint", metavar="ENDPOINT")
    history_.add_argument("key", metavar="KEY")
    history_.add_argument(
        "--tree", action="store_true", help="of the whole event: with what it came of, and its own"
    )

    tail_ = add_command(
        commands,
        "tail",
        tail,
        "show what has happened last, and with -f what happens",
        "Show the last records of the history of endpoints; with -f those that follow, as they "
        "come. In JSON: one record a line.",
    )
    tail_.add_argument("endpoints", metavar="ENDPOINT", nargs="*", help="(default: all)")
    tail_.add_argument("--follow", "-f", action="store_true", help="go on until Ctrl-C")
    tail_.add_argument("-n", type=whole, default=10, metavar="N", help="of the last (default: 10)")
    tail_.add_argument(
        "--kind",
        action="append",
        choices=[kind.value for kind in Kind],
        metavar="KIND",
        help=f"only of this kind, several times for several: {', '.join(Kind)}",
    )
    tail_.add_argument(
        "--interval",
        type=seconds,
        metavar="SECONDS",
        default=0.5,
        help="with -f: between two looks where the backend does not tell what others do, and "
        "between two tries while a server is away (default: 0.5)",
    )


def history(arguments: argparse.Namespace) -> int:
    """Show the records of one callback, or of a whole event."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        keys = [arguments.key]
        if arguments.tree:
            query = {"key": arguments.key}
            tree = inbox.ask("tree", arguments.endpoint, query=query)["callbacks"]
            keys = [callback["id"] for callback in tree]
        records = [
            record
            for key in keys
            for record in inbox.ask("history", arguments.endpoint, query={"key": key})["records"]
        ]
    records.sort(key=lambda record: record["position"])
    if not records and not output.as_json:
        raise NotThere(
            f"nothing is known of callback {arguments.key!r} of endpoint {arguments.endpoint!r}: "
            "it was never pushed, or its history was kept long enough"
        )
    if output.as_json:
        output.document({"records": records})
    else:
        show_records(output, records)
    return 0 if records else 1


def tail(arguments: argparse.Namespace) -> int:
    """Show the last records, and those that follow."""
    output = output_of(arguments)
    with open_inbox(arguments) as inbox:
        follower = Follower(inbox, arguments.endpoints, arguments.kind)
        several = len(arguments.endpoints) != 1
        for record in follower.last(arguments.n):
            _show(output, record, several)
        if arguments.follow:
            follow(follower, arguments.interval, lambda it: _show(output, it, several))
    return 0


def follow(follower: Follower, interval: float, show: Callable[[Json], None]) -> None:
    """Show what happens. While a server is away it is waited for."""
    stop = threading.Event()  # nobody sets it: an interrupt ends the wait
    away = False
    while True:
        try:
            for record in follower.follow(interval):
                if away:
                    note("pollin: it answers again")
                    away = False
                if record is not None:
                    show(record)
        except Unavailable as error:
            if not away:
                note(f"pollin: {error}; trying again")
            away = True
        stop.wait(interval)


class Follower:
    """Follows the history of endpoints.

    Args:
        inbox: whose.
        endpoint_ids: which; none: all, also those that are created later.
        kinds: of records; None: all.
    """

    def __init__(
        self, inbox: Inbox, endpoint_ids: list[str], kinds: list[str] | None = None
    ) -> None:
        self._inbox = inbox
        self._all = not endpoint_ids
        self._kinds = kinds
        ids = endpoint_ids or [it["id"] for it in inbox.endpoints()]
        # Where reading goes on; and whatever is in an endpoint that comes later is new.
        self._positions: dict[str, int] = {}
        for id in dict.fromkeys(ids):
            with self._deleted(id):
                self._positions[id] = end_of(inbox, id)

    def last(self, number: int) -> list[Json]:
        """The last so many records of all, in the order in which they happened."""
        found: list[Json] = []
        for endpoint_id, end in list(self._positions.items()):
            with self._deleted(endpoint_id):
                found += _last(self._inbox, endpoint_id, end, number, self._kinds)
        found.sort(key=lambda record: (record["at"], record["position"]))
        return found[-number:] if number else []

    def follow(self, interval: float) -> Iterator[Json | None]:
        """What happens from now on; None where nothing has. It may end, and can go on."""
        lines = self._inbox.follow(
            self._positions, others=self._all, kinds=self._kinds, interval=interval
        )
        for line in lines:
            if line is None or "kind" in line:
                yield line
            # As it was given: what was shown is not shown again, whatever comes then.
            if line is not None:
                self._positions[line["endpoint_id"]] = line["position"]

    @contextlib.contextmanager
    def _deleted(self, endpoint_id: str) -> Iterator[None]:
        """An endpoint may be deleted meanwhile: unless it was asked for by name, it is let go."""
        try:
            yield
        except NotThere:
            if not self._all:
                raise
            self._positions.pop(endpoint_id, None)


def end_of(inbox: Inbox, endpoint_id: str) -> int:
    """The position of the last record of an endpoint, 0 if there is none.

    Records can only be read forwards, so it is searched for: some dozens of short questions,
    however long the history is.
    """

    def next_after(position: int) -> int | None:
        found = inbox.records(endpoint_id, min(position, _LARGEST), limit=1)["records"]
        return found[0]["position"] if found else None

    found, low, step = next_after(0), 0, 1
    while found is not None:
        low, step = found, step * 2
        found = next_after(low + step)
    # Nothing is behind high, and low is the position of one.
    high = low + step if low else 0
    while low < high:
        middle = (low + high) // 2
        found = next_after(middle)
        if found is None:
            high = middle
        else:
            low = found
    return low


def _last(
    inbox: Inbox, endpoint_id: str, end: int, number: int, kinds: list[str] | None
) -> list[Json]:
    """The last so many records up to a position."""
    if number == 0 or end == 0:
        return []
    reach = max(2 * number, PAGE)
    while True:
        begin = max(end - reach, 0)
        found: deque[Json] = deque(maxlen=number)
        for record in inbox.all_records(endpoint_id, begin, kinds):
            if record["position"] > end:
                break
            found.append(record)
        if len(found) == number or begin == 0:
            return list(found)
        reach *= 8


def _show(output: Output, record: Json, several: bool) -> None:
    if output.as_json:
        output.document(record)
        return
    # The age of what is followed is none: a time of day is.
    at = moment(record["at"])
    _, _, kind, key, phase, by, attempt, reason = record_row(record)
    cells = [at, f"{kind!s:<12}", f"{key or '(all)'!s:<36}", phase]
    if several:
        cells.insert(1, record["endpoint_id"])
    cells += [f"by {by}" if by else "", f"attempt {attempt}" if attempt else "", reason]
    output.line("  ".join(one_line(str(cell)) for cell in cells if cell != ""))
