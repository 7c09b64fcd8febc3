"""The supervision tree: who runs, who was restarted, who crashed and on what."""

from __future__ import annotations

from typing import NamedTuple

import anyio.to_thread

from pollin_actors.otp import TreeNode
from pollin_actors.web.actors import Totals, places, totals
from pollin_actors.web.crashes import redact
from pollin_actors.web.dashboard.visit import Operation, Page, Visit, Watch

__all__ = ["OPERATIONS"]

CHILDREN = 100
"""Of one supervisor that are shown: first those with something to say."""


class Line(NamedTuple):
    """One actor."""

    node: TreeNode
    depth: int
    path: str
    """Tells it apart from all others."""
    crash: str
    """Its last crash, redacted; empty for none."""
    crashed_at: int | None
    left: int
    """How many of its children are not shown."""


async def tree(visit: Visit) -> Page:
    root = await visit.app.tree(timeout=visit.timeout)
    lines, sums = await anyio.to_thread.run_sync(_lines, root)
    context = {
        "lines": lines,
        "actors": sums.actors,
        "restarts": sums.restarts,
        "waiting": sums.mailbox,
        "crashes": visit.shared.crashes.newest_first(),
    }
    return Page("tree.html", context, watch=Watch(tree=True, every=1.0))


def _lines(root: TreeNode) -> tuple[list[Line], Totals]:
    lines = []
    for path, node, left in places(root, CHILDREN):
        crash = node.last_crash
        said = "" if crash is None else redact(crash.error)
        at = None if crash is None else crash.at
        lines.append(Line(node, len(path) - 1, "/".join(path), said, at, left))
    return lines, totals(root)


OPERATIONS = (Operation("GET", "/tree", tree),)
