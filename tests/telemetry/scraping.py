"""Scraping as Prometheus does: what is exposed, as its own parser reads it."""

from __future__ import annotations

from typing import Any, NamedTuple

from prometheus_client import CollectorRegistry
from prometheus_client.openmetrics.parser import (
    text_string_to_metric_families as parse_openmetrics,
)
from prometheus_client.parser import text_string_to_metric_families as parse_text

from pollin_actors import Application
from pollin_actors.telemetry import PrometheusMetrics
from pollin_actors.telemetry.catalogue import METRICS

__all__ = ["OPENMETRICS", "Scrape", "measured", "parsed", "scrape"]

OPENMETRICS = "application/openmetrics-text; version=1.0.0"


class Scrape(NamedTuple):
    """What one scrape has brought."""

    samples: dict[str, dict[tuple[tuple[str, str], ...], float]]
    types: dict[str, str]

    def value(self, name: str, **labels: str) -> float | None:
        """A sample; None if there is none."""
        return self.samples.get(name, {}).get(tuple(sorted(labels.items())))

    def labels(self, label: str) -> set[str]:
        """All values that a label has anywhere."""
        return {
            value
            for samples in self.samples.values()
            for key in samples
            for name, value in key
            if name == label
        }

    def total(self) -> int:
        """How many samples there are."""
        return sum(map(len, self.samples.values()))


def measured(app: Application, **options: Any) -> PrometheusMetrics:
    """An application's metrics, in a registry of their own."""
    return PrometheusMetrics(app, registry=CollectorRegistry(), **options)


def scrape(metrics: PrometheusMetrics, accept: str = "") -> Scrape:
    """Scrape once, and check what must hold for every scrape."""
    body, _ = metrics.render(accept)
    return parsed(body, accept)


def parsed(body: bytes, accept: str = "") -> Scrape:
    """What a body says. Every sample is there once, every metric is one of the catalogue's."""
    parse = parse_openmetrics if "openmetrics" in accept else parse_text
    samples: dict[str, dict[tuple[tuple[str, str], ...], float]] = {}
    types: dict[str, str] = {}
    for family in parse(body.decode()):
        assert family.name not in types, f"{family.name} comes twice"
        types[family.name] = family.type
        for sample in family.samples:
            key = tuple(sorted(sample.labels.items()))
            of_name = samples.setdefault(sample.name, {})
            assert key not in of_name, f"{sample.name}{dict(key)} comes twice"
            of_name[key] = sample.value
            _check(family.name, family.type, sample.name, {name for name, _ in key})
    return Scrape(samples, types)


def _check(family: str, kind: str, sample: str, labels: set[str]) -> None:
    metric = METRICS.get(f"{family}_total" if kind == "counter" else family)
    assert metric is not None, f"{family} is not in the catalogue"
    assert metric.kind == kind
    assert labels - {"le"} == set(metric.labels)
    ends = {"counter": ("_total",), "gauge": ("",), "histogram": ("_bucket", "_sum", "_count")}
    assert sample.removeprefix(family) in ends[kind]
