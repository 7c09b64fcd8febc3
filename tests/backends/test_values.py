"""Values as JSON: each has one notation, and nothing else is read."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pollin_actors.backends.values import tagged, untagged

JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.sampled_from(["nan", "inf", "1_0", "YQ==", "tuple", "dict", "float", "text", "bytes"])
    | st.text(max_size=4),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["$", "a"]), inner, max_size=2)
        | st.fixed_dictionaries(
            {
                "$": st.tuples(
                    st.sampled_from(["tuple", "dict", "float", "text", "bytes"]),
                    inner | st.integers(10**308, 10**320),
                ).map(list)
            }
        )
    ),
    max_leaves=8,
)


@settings(max_examples=500, deadline=None)
@given(JSON)
def test_what_is_read_is_written_the_same_or_is_refused(value: Any) -> None:
    """Whatever stands behind ``$``: no other error than those that callers know."""
    try:
        read = untagged(value)
    except (LookupError, TypeError, ValueError):
        return
    assert repr(untagged(tagged(read))) == repr(read)


@pytest.mark.parametrize(
    "mark",
    [
        ["float", 10**399],
        ["float", "1_0"],
        ["float", "1.5"],
        ["float", "Infinity"],
        ["float", " nan"],
        ["float", True],
        ["float", 1],
        ["float", None],
        ["float", ["nan"]],
        ["tuple", "ab"],
        ["tuple", {"a": 1}],
        ["tuple", None],
        ["dict", "ab"],
        ["dict", ["ab"]],
        ["dict", {"ab": 1}],
        ["dict", [[1, 2, 3]]],
        ["dict", [[1, 2], [1, 3]]],
        ["dict", [[[], 1]]],
        ["bytes", ["YQ=="]],
        ["bytes", None],
        ["text", 5],
        ["text", "/w=="],
        ["float"],
        ["float", "nan", 1],
        {"float": 1, "nan": 2},
        "ab",
        None,
    ],
    ids=repr,
)
def test_what_is_never_written_is_not_read(mark: Any) -> None:
    """A number that no float can be made of, texts in the place of lists, keys twice."""
    with pytest.raises((LookupError, TypeError, ValueError)):
        untagged({"$": mark})


def test_numbers_that_are_none_are_keys_too() -> None:
    """Two that are no numbers are not equal, and stay two."""
    value = {math.nan: 1, -math.nan: 2, math.inf: 3, -math.inf: 4, ("a",): b"b"}
    read = untagged(tagged(value))
    assert list(map(repr, read.items())) == list(map(repr, value.items()))
