"""The backend in a PostgreSQL database: many machines, one queue."""

from pollin_actors.backends.postgres.backend import PostgresBackend

__all__ = ["PostgresBackend"]
