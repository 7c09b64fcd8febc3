"""Logging that never raises, for threads that must not end over it."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import structlog

__all__ = ["OWN", "log_exception"]

log = structlog.get_logger("pollin_actors.otp")

OWN = (Exception, SystemExit, GeneratorExit)
"""What code of others may raise of its own; anything else is an interrupt of the thread."""


def log_exception(event: str, **fields: Any) -> None:
    """Log the exception that is being handled, by structlog or, if that fails, by logging."""
    try:
        log.exception(event, **fields)
    except OWN:
        # The host's structlog is what fails: the standard library's logging hardly ever raises.
        with contextlib.suppress(*OWN):
            logging.getLogger("pollin_actors.otp").exception("%s %s", event, fields)
