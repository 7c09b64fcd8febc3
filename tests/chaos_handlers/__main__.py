"""Handlers when much goes wrong, over many seeds.

    python -m tests.chaos_handlers 1000
    python -m tests.chaos_handlers 1 --first 4711

Prints what is wrong with which seed, and in the end how much has happened.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import traceback
from collections import Counter
from pathlib import Path

import structlog

from tests.chaos_handlers.world import run


def main() -> int:
    """The command; its exit status says whether a seed has failed."""
    parser = argparse.ArgumentParser(prog="python -m tests.chaos_handlers")
    parser.add_argument("seeds", type=int, nargs="?", default=1000)
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--verbose", action="store_true")
    options = parser.parse_args()
    if not options.verbose:
        structlog.configure(processors=[_drop])
    failed = 0
    happened: Counter[str] = Counter()
    for seed in range(options.first, options.first + options.seeds):
        with tempfile.TemporaryDirectory() as folder:
            try:
                world = run(seed, Path(folder))
                wrong = world.wrong
                happened += world.happened
            except Exception:
                wrong = [traceback.format_exc()]
        failed += bool(wrong)
        for line in wrong:
            print(f"seed {seed}: {line}", flush=True)
    for what, count in sorted(happened.items()):
        print(f"{what:>14} {count}")
    print(f"{options.seeds} seeds, {failed} failed")
    return failed > 0


def _drop(*_: object) -> structlog.typing.EventDict:
    raise structlog.DropEvent


if __name__ == "__main__":
    sys.exit(main())
