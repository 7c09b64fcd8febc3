"""Looking at a supervision tree: as data, and as text."""

from __future__ import annotations

from collections.abc import Hashable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

from pollin_actors.otp.children import Child, ChildState, LastCrash
from pollin_actors.otp.futures import ReplyFuture

if TYPE_CHECKING:
    from pollin_actors.otp.cell import Cell
    from pollin_actors.otp.runtime import Runtime

__all__ = ["Inspect", "TreeNode", "tree_of"]


PATIENCE = 1.0
"""Seconds that a supervisor waits for those below it; then it answers without their children."""


class Inspect(NamedTuple):
    """Ask a supervisor for its tree. The reply is its ``TreeNode``, also while it is stopping."""


@dataclass(frozen=True, slots=True)
class TreeNode:
    """One actor of a supervision tree, as it was when its supervisor was asked.

    Supervisors answer one after another, so a tree is no snapshot of a single moment.
    """

    id: Hashable
    type: str
    """``worker`` or ``supervisor``."""
    state: ChildState
    actor: str | None
    """The name of its class; None while it does not run."""
    name: Hashable = None
    generation: int = 0
    """Which incarnation under its name, counted from 1; 0 without a name."""
    restarts: int = 0
    """How often its supervisor has restarted it, or tried to."""
    mailbox: int = 0
    """How many messages wait."""
    uptime: float | None = None
    """Seconds since its start; None while it does not run."""
    last_crash: LastCrash | None = None
    strategy: str | None = None
    """Of a supervisor: its strategy."""
    unstopped: int = 0
    """Of a supervisor: how many children were abandoned; their threads may still run."""
    children: tuple[TreeNode, ...] = ()
    """In the order of their start."""

    def walk(self) -> Iterator[TreeNode]:
        """This node and all below it, parents first."""
        yield self
        for child in self.children:
            yield from child.walk()

    def __str__(self) -> str:
        """The tree as text, one line for each actor."""
        return "\n".join(_lines(self, "", ""))


def _lines(node: TreeNode, first: str, rest: str) -> Iterator[str]:
    yield first + _line(node)
    for index, child in enumerate(node.children):
        last = index == len(node.children) - 1
        yield from _lines(
            child, rest + ("└── " if last else "├── "), rest + ("    " if last else "│   ")
        )


def _line(node: TreeNode) -> str:
    parts = [str(node.id)]
    kind = node.actor or node.type
    parts.append(f"{kind}, {node.strategy}" if node.strategy else kind)
    parts.append(str(node.state))
    if node.uptime is not None:
        parts.append(f"up {_duration(node.uptime)}")
    if node.restarts:
        parts.append(f"restarts {node.restarts}")
    if node.mailbox:
        parts.append(f"mailbox {node.mailbox}")
    if node.unstopped:
        parts.append(f"unstopped {node.unstopped}")
    if node.last_crash is not None:
        at = datetime.fromtimestamp(node.last_crash.at // 1_000_000_000, tz=UTC)
        # One line per actor, whatever an exception's text holds.
        error = " ".join(node.last_crash.error.split())
        error = error if len(error) <= 80 else error[:77] + "..."
        parts.append(f"last crash {at:%Y-%m-%d %H:%M:%S}Z {error}")
    return "  ".join(parts)


def _duration(seconds: float) -> str:
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, left = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    text = f"{hours:02}:{minutes:02}:{left:02}"
    return f"{days} d {text}" if days else text


def tree_of(
    cell: Cell, children: list[Child], runtime: Runtime, **own: Any
) -> ReplyFuture[TreeNode]:
    """A supervisor's tree; the supervisors below it are asked, and nobody waits.

    Args:
        cell: the supervisor's.
        children: its children, in the order of their start.
        runtime: where it lives.
        own: further fields of its node.
    """
    answer: ReplyFuture[TreeNode] = ReplyFuture()
    nodes = [_node(child, runtime) for child in children]
    asked: list[tuple[int, ReplyFuture[TreeNode]]] = []
    for index, child in enumerate(children):
        below = child.cell
        if below is not None and below.supervises:
            asked.append((index, below.mailbox.ask(Inspect(), None, below)))
    answered: set[int] = set()

    def complete() -> None:
        node = TreeNode(
            id=cell.name if cell.name is not None else cell.actor_class.__name__,
            type="supervisor",
            actor=cell.actor_class.__name__,
            name=cell.name,
            generation=cell.generation,
            mailbox=len(cell.mailbox.queue),
            children=tuple(nodes),
            **own,
        )
        answer._settle((node, None))

    def settle(index: int, future: ReplyFuture[TreeNode]) -> None:
        below = None
        if future._outcome is not None and future._outcome[1] is None:
            below = future._outcome[0]
        if below is not None:  # else it has ended, and its children with it
            nodes[index] = replace(
                nodes[index],
                children=below.children,
                strategy=below.strategy,
                unstopped=below.unstopped,
            )
        answered.add(index)  # one step, whichever threads answer
        if len(answered) == len(asked):
            complete()

    if not asked:
        complete()
        return answer
    # One that is stuck, in a child's factory perhaps, must not hide the others.
    patience = runtime.timers.call_later(PATIENCE, complete)
    answer.add_done_callback(lambda _: patience.cancel())
    for index, future in asked:
        future.add_done_callback(partial(settle, index))
    return answer


def _node(child: Child, runtime: Runtime) -> TreeNode:
    spec, cell = child.spec, child.cell
    since = child.running_since
    return TreeNode(
        id=spec.id,
        type=spec.type,
        state=child.shown,
        actor=cell.actor_class.__name__ if cell is not None else None,
        name=spec.name,
        generation=cell.generation if cell is not None else 0,
        restarts=child.restarts,
        mailbox=len(cell.mailbox.queue) if cell is not None else 0,
        uptime=runtime.clock.monotonic() - since
        if cell is not None and since is not None
        else None,
        last_crash=child.last_crash,
    )
