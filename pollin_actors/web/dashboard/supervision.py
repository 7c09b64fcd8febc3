"""The supervision tree: who runs, who was restarted, who crashed and on what."""

from __future__ import annotations

from typing import NamedTuple

import anyio.to_thread

from pollin_actors.otp import TreeNode
from pollin_actors.otp.children import ChildState
from pollin_actors.web.dashboard.crashes import redact
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
    lines, actors, restarts, waiting = await anyio.to_thread.run_sync(_lines, root)
    context = {
        "lines": lines,
        "actors": actors,
        "restarts": restarts,
        "waiting": waiting,
        "crashes": visit.shared.crashes.newest_first(),
    }
    return Page("tree.html", context, watch=Watch(tree=True, every=1.0))


def _lines(root: TreeNode) -> tuple[list[Line], int, int, int]:
    lines: list[Line] = []
    waiting: list[tuple[TreeNode, int, str]] = [(root, 0, "")]
    while waiting:
        node, depth, above = waiting.pop()
        path = f"{above}/{node.id}"
        shown = sorted(node.children, key=_calm)[:CHILDREN] if _many(node) else node.children
        crash = node.last_crash
        said = "" if crash is None else redact(crash.error)
        at = None if crash is None else crash.at
        lines.append(Line(node, depth, path, said, at, len(node.children) - len(shown)))
        waiting.extend((child, depth + 1, path) for child in reversed(shown))
    actors = restarts = mailbox = 0
    for node in root.walk():
        actors += 1
        restarts += node.restarts
        mailbox += node.mailbox
    return lines, actors, restarts, mailbox


def _many(node: TreeNode) -> bool:
    return len(node.children) > CHILDREN


def _calm(node: TreeNode) -> tuple[bool, int, int]:
    """The smaller, the sooner it should be looked at."""
    at = 0 if node.last_crash is None else node.last_crash.at
    return (node.state is ChildState.RUNNING, -at, -node.mailbox)


OPERATIONS = (Operation("GET", "/tree", tree),)
