"""The backend that keeps everything in Valkey, or in Redis."""

from pollin_actors.backends.valkey.backend import ValkeyBackend

__all__ = ["ValkeyBackend"]
