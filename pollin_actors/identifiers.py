"""Identifiers that sort by the time they were made, so that indexes over them stay local."""

from __future__ import annotations

import os
import random
from time import time_ns

__all__ = ["uuid7"]

# The random bits make identifiers unique, not secret: a fast generator, seeded by the system.
_random = random.Random()
_random_bits = _random.getrandbits

_NS_PER_MS = 1_000_000
_VERSION = 0x7 << 76
_VARIANT = 0b10 << 62

# The newest stamp given out: milliseconds since the epoch << 12 | fraction of the millisecond.
_newest = 0


def uuid7() -> str:
    """Make a UUID of version 7 (RFC 9562) from the clock and 62 random bits.

    Identifiers made by one thread sort in the order they were made, also when the clock stands
    still or goes back. There is no lock: threads that race may get stamps out of order, and the
    random bits still tell the identifiers apart.

    Returns:
        The usual text form: 36 characters, lower case.
    """
    global _newest
    ms, ns = divmod(time_ns(), _NS_PER_MS)
    stamp = ms << 12 | (ns << 12) // _NS_PER_MS
    if stamp <= _newest:
        stamp = _newest + 1
    _newest = stamp
    value = (stamp >> 12) << 80 | _VERSION | (stamp & 0xFFF) << 64 | _VARIANT | _random_bits(62)
    text = f"{value:032x}"
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


if hasattr(os, "register_at_fork"):
    # A child that inherited the generator would repeat its parent's bits.
    os.register_at_fork(after_in_child=_random.seed)
