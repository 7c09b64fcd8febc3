"""The supervision tree of an application: what stands in it, and under which names.

```
Supervisor (root)
├── CallbackActor supervisor   one CallbackActor per endpoint, started by the first message to it
├── EndpointActor              the registry of endpoints
├── consumer supervisor        one ConsumerActor per handler
└── user supervisor            actors of your own
```
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence
from functools import partial

import pykka

from pollin_actors.actors import CallbackActor, EndpointActor
from pollin_actors.actors.changes import Changes
from pollin_actors.backends.interface import Backend
from pollin_actors.instruments import Instrumentation
from pollin_actors.otp import Backoff, ChildSpec, DynamicSupervisor, Registry, Supervisor
from pollin_actors.resources import Endpoint
from pollin_actors.settings import Settings

__all__ = ["ACTORS", "CALLBACKS", "CONSUMERS", "ENDPOINTS", "tree_specs"]

# Names in the runtime's registry.
ENDPOINTS = "pollin.endpoints"
CALLBACKS = "pollin.callbacks"
CONSUMERS = "pollin.consumers"
ACTORS = "pollin.actors"


def tree_specs(
    settings: Settings,
    backend: Backend,
    registry: Registry,
    children: Sequence[ChildSpec | type[pykka.Actor]],
    changes: Changes,
    consumers: Callable[[], Sequence[ChildSpec]],
    consumer_registry: Registry,
    phases_of: Callable[[Endpoint], Iterable[str]],
    instruments: Instrumentation,
) -> list[ChildSpec]:
    """The root supervisor's children.

    Args:
        settings: the application's.
        backend: what the actors have their messages executed by.
        registry: the names of the callback actors: the endpoints' ids.
        children: of the user supervisor.
        changes: is told of what changes at endpoints.
        consumers: the children of the consumer supervisor, as they are when it starts.
        consumer_registry: their names: the handlers'.
        phases_of: which phases of an endpoint they consume.
        instruments: are told of every operation.
    """

    def callback_spec(endpoint_id: Hashable) -> ChildSpec:
        return ChildSpec(
            id=endpoint_id,
            name=endpoint_id,
            start=partial(
                CallbackActor, str(endpoint_id), backend, settings.max_bytes, changes, instruments
            ),
            restart="transient",
        )

    return [
        ChildSpec(
            id="callbacks",
            name=CALLBACKS,
            type="supervisor",
            start=lambda: DynamicSupervisor(
                spec_for=callback_spec,
                max_restarts=100,
                max_seconds=5.0,
                backoff=Backoff(first=0.1),
                idle_after=settings.idle_after,
                registry=registry,
            ),
        ),
        ChildSpec(
            id="endpoints",
            name=ENDPOINTS,
            start=lambda: EndpointActor(
                backend,
                registry,
                CALLBACKS,
                settings.sweep_interval,
                changes,
                phases_of,
                instruments,
            ),
        ),
        ChildSpec(
            id="consumers",
            name=CONSUMERS,
            type="supervisor",
            # The back-off holds each of them; however many crash, the others are left alone.
            start=lambda: Supervisor(
                consumers(),
                max_restarts=10_000,
                max_seconds=5.0,
                backoff=Backoff(first=0.1),
                registry=consumer_registry,
            ),
        ),
        ChildSpec(
            id="actors",
            name=ACTORS,
            type="supervisor",
            start=lambda: Supervisor(children),
        ),
    ]
