"""The metrics there are: names, kinds, labels, and what each says."""

from __future__ import annotations

from typing import Literal, NamedTuple

__all__ = ["METRICS", "Metric"]

Kind = Literal["counter", "gauge", "histogram"]


class Metric(NamedTuple):
    """One metric, by the conventions of Prometheus: base units, counters that end in ``_total``."""

    name: str
    kind: Kind
    labels: tuple[str, ...]
    says: str


METRICS: dict[str, Metric] = {
    metric.name: metric
    for metric in (
        Metric(
            "pollin_up", "gauge", (), "1 if the inbox runs and has answered this scrape in time"
        ),
        Metric(
            "pollin_scrape_unanswered",
            "gauge",
            (),
            "Endpoints whose figures are missing, or are those of an earlier scrape",
        ),
        Metric("pollin_endpoints", "gauge", (), "Endpoints that exist"),
        Metric("pollin_queued_callbacks", "gauge", ("endpoint", "phase"), "Callbacks in the queue"),
        Metric(
            "pollin_queued_bytes", "gauge", ("endpoint",), "Bytes of the callbacks in the queue"
        ),
        Metric(
            "pollin_claimed_callbacks",
            "gauge",
            ("endpoint",),
            "Callbacks that are claimed: somebody works on them",
        ),
        Metric(
            "pollin_delayed_callbacks",
            "gauge",
            ("endpoint",),
            "Callbacks that wait for their time, or for others of their ordering key",
        ),
        Metric(
            "pollin_oldest_waiting_seconds",
            "gauge",
            ("endpoint", "phase"),
            "Age of the first callback of a phase that is consumed, or that callbacks begin in; "
            "0 if there is none",
        ),
        Metric(
            "pollin_expired_callbacks_total",
            "counter",
            ("endpoint",),
            "Callbacks that have expired; where an endpoint is reset it goes on from where it was",
        ),
        Metric(
            "pollin_pushes_total",
            "counter",
            ("endpoint", "outcome"),
            "Pushes of callbacks: queued, duplicate, refused, failed",
        ),
        Metric(
            "pollin_received_requests_total",
            "counter",
            ("endpoint", "code", "outcome"),
            "Requests that receivers have answered, by HTTP status, and as queued, duplicate, "
            "accepted, replied, refused, gone",
        ),
        Metric(
            "pollin_receive_duration_seconds",
            "histogram",
            ("endpoint",),
            "From the head of a request to its answer, for endpoints that exist",
        ),
        Metric(
            "pollin_handler_calls_total",
            "counter",
            ("endpoint", "handler", "outcome"),
            "Calls of handlers that have ended: returned, raised, timed_out",
        ),
        Metric(
            "pollin_handler_duration_seconds",
            "histogram",
            ("endpoint", "handler"),
            "How long calls of handlers have taken",
        ),
        Metric(
            "pollin_handler_outcomes_total",
            "counter",
            ("endpoint", "handler", "outcome"),
            "Callbacks that handlers had claimed: acknowledged, failed, "
            "dead, discarded, released, lost",
        ),
        Metric(
            "pollin_handler_held_callbacks",
            "gauge",
            ("endpoint", "handler"),
            "Callbacks that a handler has claimed at the moment",
        ),
        Metric(
            "pollin_backend_operations_total",
            "counter",
            ("operation", "outcome"),
            "Operations that actors gave the backend: ok, refused, failed",
        ),
        Metric(
            "pollin_backend_operation_duration_seconds",
            "histogram",
            ("operation",),
            "How long those operations have taken, waiting for a commit included",
        ),
        Metric(
            "pollin_mailbox_messages",
            "gauge",
            ("endpoint",),
            "Messages that wait for the actor of an endpoint",
        ),
        Metric(
            "pollin_endpoint_actor_messages",
            "gauge",
            (),
            "Messages that wait for the actor that keeps the endpoints",
        ),
        Metric("pollin_pool_threads", "gauge", (), "Threads of the pool that actors share"),
        Metric(
            "pollin_pool_waiting_threads",
            "gauge",
            (),
            "Threads of the pool whose actor waits for an answer",
        ),
        Metric("pollin_pool_tasks", "gauge", (), "Actors that wait for a thread of the pool"),
        Metric(
            "pollin_restarts_total",
            "counter",
            ("supervisor",),
            "Restarts of actors: callbacks (those of endpoints), consumers (of handlers), actors "
            "(yours), other",
        ),
        Metric(
            "pollin_crashes_total",
            "counter",
            ("supervisor",),
            "Crashes of actors, by the same supervisors",
        ),
    )
}
