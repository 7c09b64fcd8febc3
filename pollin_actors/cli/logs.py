"""Where the log of a command goes."""

from __future__ import annotations

import contextlib
import logging
import sys
from collections.abc import Iterator

import structlog

__all__ = ["log_to_stderr"]


@contextlib.contextmanager
def log_to_stderr(level: int = logging.WARNING) -> Iterator[None]:
    """Log to stderr, and afterwards as before: stdout is for what was asked for.

    Args:
        level: what is less is left out.
    """
    configured, before = structlog.is_configured(), structlog.get_config()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso"),
            structlog.dev.ConsoleRenderer(
                colors=sys.stderr is not None and sys.stderr.isatty(),
                # The others show the values of variables.
                exception_formatter=structlog.dev.plain_traceback,
            ),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
    )
    try:
        yield
    finally:
        if configured:
            structlog.configure(**before)
        else:
            structlog.reset_defaults()
