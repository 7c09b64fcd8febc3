"""The backend that keeps everything in a SQLite file."""

from pollin_actors.backends.sqlite.backend import SqliteBackend

__all__ = ["SqliteBackend"]
