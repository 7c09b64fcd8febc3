"""A sorted set of integers that is cheap at both ends and in the middle."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from operator import itemgetter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

__all__ = ["OrderedIndex"]

_BLOCK = 512
_SMALL = _BLOCK // 4

_last = itemgetter(-1)


class OrderedIndex:
    """A sorted set of integers, kept as a list of short sorted blocks.

    ``add``, ``discard``, ``first`` and ``len`` cost O(log n) plus the move of at most one block;
    a slice costs O(offset + limit).

    Arguments:
        values: what it starts with, ascending and without repeats.
    """

    __slots__ = ("_blocks", "_length")

    def __init__(self, values: Iterable[int] = ()) -> None:
        flat = list(values)
        self._blocks = [flat[start : start + _BLOCK] for start in range(0, len(flat), _BLOCK)]
        self._length = len(flat)

    def __len__(self) -> int:
        return self._length

    def __iter__(self) -> Iterator[int]:
        for block in self._blocks:
            yield from block

    def add(self, value: int) -> None:
        """Add the value, unless it is there."""
        blocks = self._blocks
        if not blocks:
            blocks.append([value])
            self._length += 1
            return
        block = blocks[-1]
        if value > block[-1]:
            if len(block) < _BLOCK:
                block.append(value)
            else:
                blocks.append([value])
            self._length += 1
            return
        at = bisect_left(blocks, value, key=_last)
        block = blocks[at]
        position = bisect_left(block, value)
        if block[position] == value:
            return
        block.insert(position, value)
        self._length += 1
        if len(block) > 2 * _BLOCK:
            blocks.insert(at + 1, block[_BLOCK:])
            del block[_BLOCK:]

    def discard(self, value: int) -> None:
        """Remove the value, if it is there."""
        blocks = self._blocks
        if not blocks:
            return
        at = 0
        block = blocks[0]
        # The head of a queue is what is removed most.
        if block[0] == value:
            del block[0]
        else:
            at = bisect_left(blocks, value, key=_last)
            if at == len(blocks):
                return
            block = blocks[at]
            position = bisect_left(block, value)
            if block[position] != value:
                return
            del block[position]
        self._length -= 1
        if len(block) < _SMALL:
            self._tidy(at, block)

    def _tidy(self, at: int, block: list[int]) -> None:
        blocks = self._blocks
        if not block:
            del blocks[at]
            return
        # Into a neighbour, so that blocks stay few however sparse the values become.
        if at + 1 < len(blocks) and len(block) + len(blocks[at + 1]) <= _BLOCK:
            block.extend(blocks[at + 1])
            del blocks[at + 1]
        elif at and len(block) + len(blocks[at - 1]) <= _BLOCK:
            blocks[at - 1].extend(block)
            del blocks[at]

    def first(self) -> int | None:
        """Return the smallest value, or None."""
        return self._blocks[0][0] if self._blocks else None

    def slice(self, offset: int, limit: int) -> list[int]:
        """Return up to ``limit`` values, ascending, after skipping the ``offset`` smallest."""
        result: list[int] = []
        for block in self._blocks:
            if len(result) >= limit:
                break
            if offset >= len(block):
                offset -= len(block)
                continue
            result += block[offset : offset + limit - len(result)]
            offset = 0
        return result

    def slice_reverse(self, offset: int, limit: int) -> list[int]:
        """Return up to ``limit`` values, descending, after skipping the ``offset`` largest."""
        result: list[int] = []
        for block in reversed(self._blocks):
            if len(result) >= limit:
                break
            stop = len(block) - offset
            if stop <= 0:
                offset = -stop
                continue
            chunk = block[max(0, stop - limit + len(result)) : stop]
            chunk.reverse()
            result += chunk
            offset = 0
        return result

    def after(self, value: int, limit: int) -> list[int]:
        """Return up to ``limit`` values that are larger than ``value``, ascending."""
        result: list[int] = []
        blocks = self._blocks
        at = bisect_right(blocks, value, key=_last)
        position = bisect_right(blocks[at], value) if at < len(blocks) else 0
        for number in range(at, len(blocks)):
            if len(result) >= limit:
                break
            result += blocks[number][position : position + limit - len(result)]
            position = 0
        return result
