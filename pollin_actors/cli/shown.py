"""Endpoints, callbacks and records as people see them."""

from __future__ import annotations

from base64 import b64decode
from collections.abc import Iterable

from pollin_actors.cli.human import ago, size, when
from pollin_actors.cli.inbox import Json
from pollin_actors.cli.output import Output
from pollin_actors.cli.screen import one_line

__all__ = [
    "RECORD_COLUMNS",
    "body_of",
    "preview",
    "record_row",
    "show_callback",
    "show_callbacks",
    "show_records",
]

# So much of a body is shown; the rest is for --body.
MOST_BODY = 10_000
MOST_PREVIEW = 60

RECORD_COLUMNS = ("POSITION", "AGE", "KIND", "CALLBACK", "PHASE", "BY", "ATTEMPT", "REASON")

_RARE = ("parent", "root", "origin", "ordering_key", "fence")


def body_of(callback: Json) -> bytes | None:
    """The body of a callback; None for a value that is no request."""
    if "body" in callback:
        # Half surrogate pairs, which a value may have, are no text.
        return str(callback["body"]).encode("utf-8", "replace")
    if "body_base64" in callback:
        return b64decode(callback["body_base64"])
    return None


def preview(callback: Json, most: int = MOST_PREVIEW) -> str:
    """The beginning of what a callback holds, on one line."""
    body = body_of(callback)
    if body is None:
        return one_line(f"value {callback.get('value', callback.get('unshown'))}"[:most])
    text = one_line(body[: 4 * (most + 1)].decode("utf-8", "replace")[: most + 1])
    return text if len(text) <= most else text[:most] + "…"


def show_callbacks(output: Output, callbacks: Iterable[Json]) -> None:
    """A line for each."""
    output.table(
        ("CALLBACK", "PHASE", "AGE", "ATTEMPTS", "SIZE", "BODY"),
        [_row(callback) for callback in callbacks],
    )


def _row(callback: Json) -> list[object]:
    return [
        callback["id"],
        callback["phase"],
        ago(callback["created_at"]),
        callback["attempts"],
        size(callback["size"]),
        preview(callback),
    ]


def show_callback(output: Output, endpoint_id: str, callback: Json) -> None:
    """All of one: what is known of it, its headers and its body."""
    pairs: list[tuple[str, object]] = [
        ("callback", callback["id"]),
        ("endpoint", endpoint_id),
        ("phase", callback["phase"]),
        ("created", when(callback["created_at"])),
        ("attempts", callback["attempts"]),
        ("size", size(callback["size"])),
    ]
    pairs += [(name.replace("_", " "), callback[name]) for name in _RARE if callback[name]]
    if callback["not_before"] is not None:
        pairs.append(("not before", when(callback["not_before"])))
    output.fields(pairs)
    for name, value in callback.get("headers", ()):
        output.line(f"  {name}: {value}")
    output.line()
    body = body_of(callback)
    if body is None:
        output.line(str(callback.get("value", callback.get("unshown"))))
        return
    text = body[: 4 * MOST_BODY].decode("utf-8", "replace")
    for line in text[:MOST_BODY].split("\n"):
        output.line(line.removesuffix("\r"))
    if len(text) > MOST_BODY or len(body) > 4 * MOST_BODY:
        output.line(f"… {size(len(body))} in all: --body gives it as it is")


def record_row(record: Json) -> tuple[object, ...]:
    """The cells of a record, as those of ``RECORD_COLUMNS``."""
    before, after = record["from_phase"], record["to_phase"]
    if before is not None and after is not None and before != after:
        phase = f"{before} → {after}"
    elif after is None and before is not None:
        phase = f"{before} →"
    else:
        phase = after or ""
    return (
        record["position"],
        ago(record["at"]),
        record["kind"],
        record["callback_id"],
        phase,
        record["by"],
        record["attempt"] or "",
        record["reason"],
    )


def show_records(output: Output, records: Iterable[Json]) -> None:
    """A line for each."""
    output.table(RECORD_COLUMNS, [record_row(record) for record in records])
