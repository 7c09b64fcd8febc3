"""The inbox on the web: callables for the servers and frameworks that you have already."""

from pollin_actors.web.admin_api import admin
from pollin_actors.web.dashboard import dashboard
from pollin_actors.web.metrics_page import metrics, wsgi_metrics
from pollin_actors.web.quarantine import Quarantined, quarantine_of, quarantined, verify_again
from pollin_actors.web.receiver import asgi
from pollin_actors.web.wsgi import wsgi

__all__ = [
    "Quarantined",
    "admin",
    "asgi",
    "dashboard",
    "metrics",
    "quarantine_of",
    "quarantined",
    "verify_again",
    "wsgi",
    "wsgi_metrics",
]
