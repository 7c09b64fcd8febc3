"""The index against a sorted list."""

from __future__ import annotations

import random
from bisect import insort

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pollin_actors.backends import ordered_index
from pollin_actors.backends.ordered_index import OrderedIndex

steps = st.lists(st.tuples(st.booleans(), st.integers(0, 40)), max_size=120)
small = st.integers(0, 50)


@pytest.fixture(params=[2, 8, 512])
def block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> int:
    """Block sizes that make splits and merges common."""
    size: int = request.param
    monkeypatch.setattr(ordered_index, "_BLOCK", size)
    monkeypatch.setattr(ordered_index, "_SMALL", max(1, size // 4))
    return size


def check(index: OrderedIndex, model: list[int]) -> None:
    assert list(index) == model
    assert len(index) == len(model)
    assert index.first() == (model[0] if model else None)
    assert all(index._blocks)


@pytest.mark.usefixtures("block")
class TestAgainstSortedList:
    @given(steps=steps, offset=small, limit=small, after=st.integers(-1, 41))
    def test_any_steps(
        self, steps: list[tuple[bool, int]], offset: int, limit: int, after: int
    ) -> None:
        index = OrderedIndex()
        model: list[int] = []
        for adds, value in steps:
            if adds:
                index.add(value)
                if value not in model:
                    insort(model, value)
            else:
                index.discard(value)
                if value in model:
                    model.remove(value)
            check(index, model)
        assert index.slice(offset, limit) == model[offset : offset + limit]
        assert index.slice_reverse(offset, limit) == model[::-1][offset : offset + limit]
        assert index.after(after, limit) == [v for v in model if v > after][:limit]

    def test_many(self) -> None:
        chance = random.Random(7)
        values = list(range(3000))
        index = OrderedIndex(values[::2])
        odd = values[1::2]
        chance.shuffle(odd)
        for value in odd:
            index.add(value)
        check(index, values)
        gone = chance.sample(values, 2500)
        for value in gone:
            index.discard(value)
        left = sorted(set(values) - set(gone))
        check(index, left)
        for start in range(0, 500, 50):
            assert index.slice(start, 60) == left[start : start + 60]
            assert index.slice_reverse(start, 60) == left[::-1][start : start + 60]
            assert index.after(left[start], 60) == left[start + 1 : start + 61]


def test_blocks_stay_few_as_values_go() -> None:
    index = OrderedIndex(range(512 * 20))
    for value in range(512 * 20):
        if value % 100:
            index.discard(value)

    assert len(index) == 103
    assert len(index._blocks) <= 2


def test_empty() -> None:
    index = OrderedIndex()
    index.discard(1)

    check(index, [])
    assert index.slice(0, 5) == index.slice_reverse(0, 5) == index.after(0, 5) == []
