"""The inbox as others see it: metrics for Prometheus, traces for OpenTelemetry."""

from pollin_actors.telemetry.prometheus import PrometheusMetrics
from pollin_actors.telemetry.tracing import Tracing, carry

__all__ = ["PrometheusMetrics", "Tracing", "carry"]
