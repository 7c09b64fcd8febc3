"""What headers say of a trace: as much of it as is well-formed, whoever has sent it.

By the recommendation of the W3C, Trace Context. A library that reads the rest logs what it does not
like, and so strangers could fill the log with whatever they send.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

__all__ = ["PARENT", "STATE", "read_parent", "read_trace"]

PARENT, STATE = "traceparent", "tracestate"

MOST_STATE = 4_096
"""Characters of ``tracestate``; the recommendation wants at least 512 to be passed on."""

MOST_MEMBERS = 32

# Of the version that everybody sends; a later one begins in the same way, and may have more.
_PARENT = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})[0-9a-f]{16}"
    r"-[0-9a-f]{2}(?P<more>-[!-~]{0,200})?",
    re.ASCII,
)
_KEY = r"[a-z][a-z0-9_*/-]{0,255}|[a-z0-9][a-z0-9_*/-]{0,240}@[a-z][a-z0-9_*/-]{0,13}"
_VALUE = r"[ -+\--<>-~]{0,255}[!-+\--<>-~]"
_MEMBER = re.compile(rf"({_KEY})={_VALUE}", re.ASCII)


def read_parent(text: str) -> str | None:
    """The id of the trace that a ``traceparent`` says; None if it is malformed."""
    found = _PARENT.fullmatch(text)
    if found is None or (found["version"] == "00" and found["more"] is not None):
        return None
    return found["trace"]


def read_trace(headers: Iterable[tuple[str, str]]) -> dict[str, str]:
    """``traceparent`` and ``tracestate`` of a request; nothing if the first is malformed, or is
    there several times, and without the second if that is.

    Args:
        headers: pairs of any names; in any case.
    """
    parents, states = [], []
    for name, value in headers:
        # Its length first: most headers are passed over without making anything.
        if len(name) == 11 and name.lower() == PARENT:
            parents.append(value)
        elif len(name) == 10 and name.lower() == STATE:
            states.append(value)
    if len(parents) != 1 or read_parent(parents[0]) is None:
        return {}
    carrier = {PARENT: parents[0]}
    state = _read_state(states)
    if state:
        carrier[STATE] = state
    return carrier


def _read_state(texts: list[str]) -> str:
    if sum(map(len, texts)) > MOST_STATE:
        return ""
    members = [member.strip(" \t") for text in texts for member in text.split(",")]
    members = [member for member in members if member]
    keys: set[str] = set()
    for member in members:
        found = _MEMBER.fullmatch(member)
        if found is None or found[1] in keys:
            return ""
        keys.add(found[1])
    return ",".join(members) if len(members) <= MOST_MEMBERS else ""
