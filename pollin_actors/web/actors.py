"""The actors of a supervision tree, as much of them as may be shown."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from heapq import nsmallest
from typing import NamedTuple

from pollin_actors.otp import TreeNode
from pollin_actors.otp.children import ChildState

__all__ = ["MOST_TEXT", "Place", "Totals", "places", "text_of", "totals"]

MOST_TEXT = 200
"""Characters of an id that are shown: those of actors of the host's own may be anything."""


class Place(NamedTuple):
    """One actor, and where it stands."""

    path: tuple[str, ...]
    """Its id as text, after those of all above it: tells it apart from all others."""
    node: TreeNode
    left: int
    """How many of its children were left out."""


class Totals(NamedTuple):
    """Of a whole tree."""

    actors: int
    restarts: int
    mailbox: int


def places(root: TreeNode, children: int | None = None) -> Iterator[Place]:
    """All actors of a tree, parents first.

    Arguments:
        root: the tree.
        children: of each supervisor at most so many, those first that have something to say.
    """
    waiting: list[tuple[TreeNode, tuple[str, ...]]] = [(root, (text_of(root.id),))]
    while waiting:
        node, path = waiting.pop()
        shown = node.children
        if children is not None and len(shown) > children:
            shown = tuple(nsmallest(children, shown, key=_calm))
        yield Place(path, node, len(node.children) - len(shown))
        labelled = list(zip(shown, _labels(shown), strict=True))
        waiting.extend((child, (*path, label)) for child, label in reversed(labelled))


def totals(root: TreeNode) -> Totals:
    """How many actors, restarts and waiting messages there are."""
    actors = restarts = mailbox = 0
    for node in root.walk():
        actors += 1
        restarts += node.restarts
        mailbox += node.mailbox
    return Totals(actors, restarts, mailbox)


def text_of(value: object) -> str:
    """An id or a name as text, not too long; those that differ stay different."""
    try:
        text = str(value)
    except Exception:  # it is of a class of the host's own
        text = f"a {type(value).__name__}"
    if len(text) <= MOST_TEXT:
        return text
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return f"{text[: MOST_TEXT - 17]}\u2026{digest}"


def _labels(siblings: Sequence[TreeNode]) -> list[str]:
    """The texts of their ids: no two alike, although ids such as 1 and "1" are."""
    taken: set[str] = set()
    labels = []
    for child in siblings:
        label = text = text_of(child.id)
        number = 1
        while label in taken:
            number += 1
            label = f"{text} ({number})"
        taken.add(label)
        labels.append(label)
    return labels


def _calm(node: TreeNode) -> tuple[bool, int, int]:
    """The smaller, the sooner it should be looked at."""
    at = 0 if node.last_crash is None else node.last_crash.at
    return (node.state is ChildState.RUNNING, -at, -node.mailbox)
