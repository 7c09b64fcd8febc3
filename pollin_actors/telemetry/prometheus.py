"""Metrics for Prometheus: counted while the inbox works, and looked up when they are scraped."""

from __future__ import annotations

import contextlib
import os
import re
import weakref
from bisect import bisect_left
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from pollin_actors.application import Application
from pollin_actors.errors import BackendUnavailable, InvalidValue, MissingExtra, PollinError
from pollin_actors.instruments import Call, Instruments
from pollin_actors.messages import MoveCursor, Push
from pollin_actors.otp import Crashed, Event, Restarting, ThreadPool
from pollin_actors.records import Claim
from pollin_actors.state import State
from pollin_actors.telemetry.catalogue import METRICS
from pollin_actors.telemetry.counting import Counts, Key, Timings
from pollin_actors.telemetry.looking import Looks, Standing, View
from pollin_actors.telemetry.names import OTHER, UNKNOWN, Names
from pollin_actors.tree import ACTORS, CALLBACKS, CONSUMERS

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry
    from prometheus_client.core import Metric

__all__ = ["PrometheusMetrics", "metrics_of"]

QUICK = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Bounds in seconds, for what a sender waits for."""

SLOW = (0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0)
"""The same for handlers."""

MOST_TIMEOUT = 60.0
"""Seconds; who scrapes does not wait longer."""

# As supervisors are called, by their names in the tree.
_SUPERVISORS = {CALLBACKS: "callbacks", CONSUMERS: "consumers", ACTORS: "actors"}


class PrometheusMetrics(Instruments):
    """Metrics of an application, in a registry of ``prometheus_client``.

    They are counted from now on, also across restarts of the application; the queues are looked at
    when they are scraped. A scrape waits for the backend no longer than ``timeout``, and on an
    event loop not at all: it then gives what is known, and ``pollin_up`` is 0.

    Args:
        app: the application; it may run already.
        registry: where they are to be found; by default ``prometheus_client.REGISTRY``. The metrics
            of two applications need two.
        max_endpoints: so many endpoints have a label of their own; all others are one, ``other``.
        timeout: seconds that a scrape waits for the backend.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
        InvalidValue: an argument has a value that it cannot have, or the registry has metrics of
            these names already.

    Example::

        metrics = PrometheusMetrics(app)
        routes = [Route("/metrics", web.metrics(app))]
    """

    def __init__(
        self,
        app: Application,
        *,
        registry: CollectorRegistry | None = None,
        max_endpoints: int = 100,
        timeout: float = 0.03,
    ) -> None:
        try:
            import prometheus_client
        except ImportError as error:
            raise MissingExtra("prometheus-client", "prometheus") from error
        whole = isinstance(max_endpoints, int) and not isinstance(max_endpoints, bool)
        if not whole or max_endpoints < 0:
            raise InvalidValue("max_endpoints", "an int, at least 0", repr(max_endpoints)[:80])
        number = isinstance(timeout, int | float) and not isinstance(timeout, bool)
        if not number or not 0 <= timeout <= MOST_TIMEOUT:
            expected = f"seconds, from 0 to {MOST_TIMEOUT:g}"
            raise InvalidValue("timeout", expected, repr(timeout)[:80])
        self._app = app
        self._timeout = timeout
        self._names = names = Names(max_endpoints)
        self._label = names.label
        self._looks = Looks(app, names)
        self._operations = Counts()
        self._operating = Timings(QUICK)
        self._succeeded: dict[type, tuple[list[int], list[float]]] = {}
        self._pushes = Counts()
        self._requests = Counts()
        self._receiving = Timings(QUICK)
        self._calls = Counts()
        self._handling = Timings(SLOW)
        self._outcomes = Counts()
        self._restarts = Counts()
        self._crashes = Counts()
        self.registry: CollectorRegistry = (
            prometheus_client.REGISTRY if registry is None else registry
        )
        """Where they are to be found."""
        try:
            self.registry.register(self)
        except ValueError as error:
            raise InvalidValue(
                "registry",
                "one that has no metrics of an inbox yet",
                "one that has some",
                "give each application a registry of its own, as registry=CollectorRegistry()",
            ) from error
        app.instruments.add(self)
        _all.add(self)

    def close(self) -> None:
        """Count no more, and take the metrics out of the registry. Closing twice does nothing."""
        self._app.instruments.remove(self)
        with contextlib.suppress(KeyError):
            self.registry.unregister(self)

    def render(self, accept: str = "") -> tuple[bytes, str]:
        """All that is in the registry, as a scraper wants it.

        Args:
            accept: the ``Accept`` header of its request.

        Returns:
            The body, and its content type.
        """
        from prometheus_client.exposition import choose_encoder

        try:
            encode, content_type = choose_encoder(accept)
        except Exception:
            # Whoever can reach the page can send anything, and gets what everybody understands.
            encode, content_type = choose_encoder("")
        return encode(self.registry), content_type

    # -- what is counted ---------------------------------------------------------------------------

    def operated(
        self, message: Any, seconds: float, reply: Any, error: BaseException | None
    ) -> None:
        kind = message.__class__
        if error is None:
            # The way of every webhook: nothing is made here, and little is looked up.
            succeeded, taken = self._succeeded.get(kind) or self._know(kind)
            succeeded[0] += 1
            place = bisect_left(QUICK, seconds) + 1
            taken[place] += 1
            taken[0] += seconds
            if kind is Push:
                self._pushes.add((self._label(message.endpoint_id), reply.outcome.value))
            elif kind is MoveCursor:
                for result in reply:
                    self._pushes.add((self._label(message.endpoint_id), result.outcome.value))
            return
        name, outcome = _name_of(kind), _failure(error)
        self._operations.add((name, outcome))
        self._operating.add((name,), seconds)
        if kind is Push or (kind is MoveCursor and message.pushes):
            self._pushes.add((self._label(message.endpoint_id), outcome))

    def _know(self, kind: type) -> tuple[list[int], list[float]]:
        """Where the successes of an operation are counted."""
        name = _name_of(kind)
        cells = self._operations.cell((name, "ok")), self._operating.cell((name,))
        return self._succeeded.setdefault(kind, cells)

    def received(
        self, token: Any, endpoint_id: str | None, status: int, outcome: str, seconds: float
    ) -> None:
        if endpoint_id is None:
            self._requests.add((UNKNOWN, str(status), outcome))
            return
        label = self._label(endpoint_id)
        self._requests.add((label, str(status), outcome))
        self._receiving.add((label,), seconds)

    def handled(self, call: Call, seconds: float, outcome: str) -> None:
        labels = self._labels_of(call.handler, call.endpoint_id)
        self._calls.add((*labels, outcome))
        self._handling.add(labels, seconds)

    def settled(self, handler: str, claim: Claim, outcome: str) -> None:
        self._outcomes.add((*self._labels_of(handler, claim.endpoint_id), outcome))

    def supervised(self, event: Event) -> None:
        if isinstance(event, Restarting):
            self._restarts.add((_supervisor_of(event),))
        elif isinstance(event, Crashed):
            self._crashes.add((_supervisor_of(event),))

    def _labels_of(self, handler: str, endpoint_id: str) -> tuple[str, str]:
        label = self._label(endpoint_id)
        # There may be a handler for each endpoint, as where requests are verified later.
        return label, OTHER if label == OTHER else handler

    # -- what is scraped ---------------------------------------------------------------------------

    def describe(self) -> Iterator[Metric]:
        """All metrics, without values: the registry asks when it is given them."""
        for name in METRICS:
            yield _family(name)

    def collect(self) -> Iterator[Metric]:
        """All metrics with their values; any thread may ask."""
        app = self._app
        view = self._looks.look(self._timeout)
        for name in view.gone:
            for numbers in (self._pushes, self._requests, self._calls, self._outcomes):
                numbers.forget(name)
            self._receiving.forget(name)
            self._handling.forget(name)
        up = app.state is State.RUNNING and view.complete
        yield _family("pollin_up", [((), float(up))])
        yield _family("pollin_scrape_unanswered", [((), view.unanswered)])
        if view.endpoints is not None:
            yield _family("pollin_endpoints", [((), view.endpoints)])
        yield from self._queues(view)
        yield from self._actors(view)
        yield _family("pollin_pushes_total", self._pushes.items())
        yield _family("pollin_received_requests_total", self._requests.items())
        yield _histogram("pollin_receive_duration_seconds", self._receiving)
        yield _family("pollin_handler_calls_total", self._calls.items())
        yield _histogram("pollin_handler_duration_seconds", self._handling)
        yield _family("pollin_handler_outcomes_total", self._outcomes.items())
        yield _family("pollin_backend_operations_total", self._operations.items())
        yield _histogram("pollin_backend_operation_duration_seconds", self._operating)
        yield _family("pollin_restarts_total", self._restarts.items())
        yield _family("pollin_crashes_total", self._crashes.items())

    def _queues(self, view: View) -> Iterator[Metric]:
        now = self._now_ns()
        standings = [(id, standing) for id, standing in view.named.items()]
        standings += [(OTHER, standing) for standing in view.others]
        sums = _Sums()
        for label, standing in standings:
            stats = standing.stats
            sums.add("pollin_queued_bytes", (label,), stats.size)
            sums.add("pollin_claimed_callbacks", (label,), stats.claimed)
            sums.add("pollin_delayed_callbacks", (label,), stats.delayed)
            phases = standing.phases if label != OTHER else {OTHER: stats.queued}
            for phase, queued in phases.items():
                sums.add("pollin_queued_callbacks", (label, phase), queued)
            for phase, age in _ages(standing, now).items():
                key = (label, phase if label != OTHER else OTHER)
                sums.most("pollin_oldest_waiting_seconds", key, age)
        for label, expired in view.expired.items():
            sums.add("pollin_expired_callbacks_total", (label,), expired)
        return sums.families()

    def _now_ns(self) -> int:
        runtime = self._app._runtime
        return 0 if runtime is None else runtime.clock.time_ns()

    def _actors(self, view: View) -> Iterator[Metric]:
        app = self._app
        sums = _Sums()
        for info in app.handlers:
            labels = self._labels_of(info.name, info.endpoint_id)
            sums.add("pollin_handler_held_callbacks", labels, info.held)
        registry, endpoints, runtime = app._registry, app._endpoints_mailbox, app._runtime
        if registry is not None:
            for name in view.named:
                mailbox = registry.find(name)
                waiting = 0 if mailbox is None else len(mailbox.queue)
                sums.add("pollin_mailbox_messages", (name,), waiting)
        if endpoints is not None:
            sums.add("pollin_endpoint_actor_messages", (), len(endpoints.queue))
        pool = runtime.scheduler if runtime is not None else None
        if isinstance(pool, ThreadPool):
            sums.add("pollin_pool_threads", (), pool.thread_count())
            sums.add("pollin_pool_waiting_threads", (), pool.waiting_count())
            sums.add("pollin_pool_tasks", (), pool.task_count())
        return sums.families()


def metrics_of(app: Application) -> PrometheusMetrics:
    """The metrics of an application; if it has none, they are made, in a registry of their own.

    Raises:
        MissingExtra: ``prometheus_client`` is not installed.
    """
    for each in app.instruments.listeners:
        if isinstance(each, PrometheusMetrics):
            return each
    try:
        import prometheus_client
    except ImportError as error:
        raise MissingExtra("prometheus-client", "prometheus") from error
    return PrometheusMetrics(app, registry=prometheus_client.CollectorRegistry())


_all: weakref.WeakSet[PrometheusMetrics] = weakref.WeakSet()


def _after_fork() -> None:
    for metrics in tuple(_all):
        metrics._names.free()
        metrics._looks.begin_anew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class _Sums:
    """Samples that may come several times with the same labels."""

    def __init__(self) -> None:
        self._values: dict[str, dict[Key, float]] = {}

    def add(self, name: str, key: Key, value: float) -> None:
        values = self._values.setdefault(name, {})
        values[key] = values.get(key, 0) + value

    def most(self, name: str, key: Key, value: float) -> None:
        values = self._values.setdefault(name, {})
        values[key] = max(values.get(key, 0.0), value)

    def families(self) -> Iterator[Metric]:
        for name, values in self._values.items():
            yield _family(name, values.items())


def _ages(standing: Standing, now: int) -> dict[str, float]:
    return {
        phase: 0.0 if created_at is None else max(0.0, (now - created_at) / 1e9)
        for phase, created_at in standing.oldest.items()
    }


def _family(name: str, samples: Iterable[tuple[Key, float]] = ()) -> Metric:
    from prometheus_client import core

    metric = METRICS[name]
    if metric.kind == "histogram":
        return core.HistogramMetricFamily(name, metric.says, labels=metric.labels)
    family: core.CounterMetricFamily | core.GaugeMetricFamily
    if metric.kind == "counter":
        family = core.CounterMetricFamily(name, metric.says, labels=metric.labels)
    else:
        family = core.GaugeMetricFamily(name, metric.says, labels=metric.labels)
    for key, value in samples:
        family.add_metric(key, value)
    return family


def _histogram(name: str, timings: Timings) -> Metric:
    from prometheus_client import core

    metric = METRICS[name]
    family = core.HistogramMetricFamily(name, metric.says, labels=metric.labels)
    bounds = _bounds(timings.bounds)
    for key, counts, total in timings.items():
        family.add_metric(key, list(zip(bounds, counts, strict=True)), total)
    return family


def _bounds(bounds: Sequence[float]) -> list[str]:
    from prometheus_client.utils import floatToGoString

    return [*map(floatToGoString, bounds), "+Inf"]


def _name_of(kind: type) -> str:
    """A message's name as labels have it: there are as many as there are messages."""
    return re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower()


def _failure(error: BaseException) -> str:
    refusal = isinstance(error, PollinError) and not isinstance(error, BackendUnavailable)
    return "refused" if refusal else "failed"


def _supervisor_of(event: Event) -> str:
    for name, label in _SUPERVISORS.items():
        if repr(name) in event.supervisor:
            return label
    return OTHER
