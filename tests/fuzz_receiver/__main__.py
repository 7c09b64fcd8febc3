"""Send rubbish, mistakes, attacks and genuine webhooks, mixed, to a receiver that runs.

    python -m tests.fuzz_receiver 200000
    python -m tests.fuzz_receiver 200000 --seed 7 --backend sqlite --http httptools

The receiver runs under uvicorn in a process of its own. What is sent depends on the seed alone.
Without options there are so many requests to each backend, a tenth of them read by h11.

It fails if anything is answered with an error of the server but 503; if a whole request has no
answer; if the queues hold anything but what was genuine, or not all that was answered 200; if an
exception is logged; if the server's memory grows.
"""

from __future__ import annotations

import argparse
import sys
import tempfile

from tests.fuzz_receiver.rounds import Fuzz


def _report(name: str, fuzz: Fuzz) -> None:
    book = fuzz.book
    print(f"{name}: {book.requests} requests in {fuzz.seconds:.0f} s")
    total = sum(book.answers.values(), type(next(iter(book.answers.values())))())
    for label, counter in [*sorted(book.answers.items()), ("all", total)]:
        shown = sorted(counter.items(), key=lambda item: item[0] or 0)
        line = ", ".join(f"{status or 'closed'}: {count}" for status, count in shown)
        print(f"  {label:14}{line}")
    print(f"  {book.stored} stored, {book.quarantined} in quarantine")
    print(f"  memory after the warm-up and at the end: {fuzz.shown_memory()}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("requests", type=int, nargs="?", default=200_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--backend", choices=["memory", "sqlite"])
    parser.add_argument("--http", choices=["httptools", "h11"])
    options = parser.parse_args()
    parts = {"httptools": 0.9, "h11": 0.1} if options.http is None else {options.http: 1.0}
    failed = False
    for backend in ["memory", "sqlite"] if options.backend is None else [options.backend]:
        for http, part in parts.items():
            with tempfile.TemporaryDirectory() as folder:
                url = "memory://" if backend == "memory" else f"sqlite:///{folder}/inbox.db"
                fuzz = Fuzz(url, http, int(options.requests * part), options.seed)
                fuzz.run()
            _report(f"{backend}, {http}", fuzz)
            for failure in fuzz.book.failures:
                print(f"  FAILED: {failure}", flush=True)
            failed = failed or bool(fuzz.book.failures)
    sys.exit(failed)


if __name__ == "__main__":
    main()
