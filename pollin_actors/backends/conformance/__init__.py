"""Checks that every backend passes, ours and those of others. They need no test framework.

```python
from pollin_actors.backends.conformance import CHECKS, check_backend

check_backend(new_store)          # all of them, one after another
for check in CHECKS:              # or each as a test of its own
    check(new_store)
```

``new_store`` makes a new, empty store and returns a function that makes a backend on it, not
open yet. Where a store lives in one backend object, the class itself will do as that function::

    def new_store():
        return MemoryBackend

    def new_store():
        path = folder / f"{next(numbers)}.db"
        return lambda: SqliteBackend(path)

The checks for restarts are for backends that say ``durable``, and so is whatever other checks
expect to find after a backend was closed and opened again. The checks for two handles on one
store are for those that say ``shared``. With other backends they do nothing.
"""

from __future__ import annotations

from pollin_actors.backends.conformance import (
    capacity,
    claims,
    consumed,
    cursors,
    duplicates,
    endpoints,
    expiry,
    family,
    fences,
    fields,
    history,
    ids,
    ordering,
    phases,
    pushes,
    queues,
    repeats,
    retention,
    rotation,
    schedules,
    stores,
    tokens,
)
from pollin_actors.backends.conformance.probe import Check, NewBackend, NewStore

__all__ = ["CHECKS", "Check", "NewBackend", "NewStore", "check_backend"]

CHECKS: tuple[Check, ...] = (
    *endpoints.CHECKS,
    *rotation.CHECKS,
    *pushes.CHECKS,
    *duplicates.CHECKS,
    *fences.CHECKS,
    *repeats.CHECKS,
    *ids.CHECKS,
    *queues.CHECKS,
    *phases.CHECKS,
    *expiry.CHECKS,
    *claims.CHECKS,
    *tokens.CHECKS,
    *schedules.CHECKS,
    *ordering.CHECKS,
    *consumed.CHECKS,
    *capacity.CHECKS,
    *family.CHECKS,
    *history.CHECKS,
    *retention.CHECKS,
    *cursors.CHECKS,
    *fields.CHECKS,
    *stores.CHECKS,
)
"""Each is a function of ``new_store``; its docstring is the rule that it checks."""


def check_backend(new_store: NewStore) -> None:
    """Run every check, each on a store of its own.

    Raises:
        AssertionError: the backend breaks a rule: which, what was expected and what came. An
            error that the backend raised where none was expected is its cause.
    """
    for check in CHECKS:
        try:
            check(new_store)
        except Exception as error:
            rule = " ".join((check.__doc__ or "").split())
            what = str(error) if isinstance(error, AssertionError) else f"got {error!r}"
            raise AssertionError(f"{check.__name__}: {rule} {what}") from error
