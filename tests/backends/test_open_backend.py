"""Finding, opening and closing a backend."""

from __future__ import annotations

import time
from typing import Any

import pytest

from pollin_actors.backends import Backend, open_backend
from pollin_actors.backends.memory import MemoryBackend
from pollin_actors.errors import BackendUnavailable, InvalidValue, UnknownBackend
from pollin_actors.messages import CreateEndpoint, IndexEndpoints, Pop, Sweep
from pollin_actors.resources import Endpoint


class TestLifecycle:
    def test_is_a_backend(self) -> None:
        backend = MemoryBackend()

        assert isinstance(backend, Backend)
        assert backend.shared is False
        assert open_backend(backend) is backend

    @pytest.mark.parametrize("url", ["memory://", "MEMORY://"])
    def test_is_found_by_url(self, url: str) -> None:
        assert isinstance(open_backend(url), MemoryBackend)

    @pytest.mark.parametrize(
        "spec", ["", "memory", "memory:", "://", "memory://x", 5, MemoryBackend]
    )
    def test_refuses_other_specs(self, spec: Any) -> None:
        with pytest.raises(InvalidValue, match=r"^backend: expected "):
            open_backend(spec)

    def test_shows_no_password_of_a_malformed_url(self) -> None:
        with pytest.raises(InvalidValue) as caught:
            open_backend("postgres:/user:hunter2@host/db")

        assert "hunter2" not in str(caught.value)

    def test_lists_the_known_backends(self) -> None:
        with pytest.raises(UnknownBackend, match="memory://") as caught:
            open_backend("nowhere://user:hunter2@host")

        assert caught.value.scheme == "nowhere"
        assert "hunter2" not in str(caught.value)

    @pytest.mark.parametrize("message", [IndexEndpoints(), Pop("orders"), Sweep()])
    def test_is_used_while_open_only(self, message: Any) -> None:
        backend = MemoryBackend()
        with pytest.raises(BackendUnavailable, match="not open"):
            backend.execute(message)

        backend.open(time.time_ns)
        backend.execute(CreateEndpoint(Endpoint.new(id="orders")))
        backend.execute(message)
        backend.close()
        backend.close()
        with pytest.raises(BackendUnavailable, match="not open"):
            backend.execute(message)

        backend.open(time.time_ns)
        assert len(backend.execute(IndexEndpoints())) == 1

    @pytest.mark.parametrize("message", [None, "pop", ("orders", None), Endpoint])
    def test_names_what_is_no_message(self, message: Any) -> None:
        with pytest.raises(InvalidValue, match=type(message).__qualname__):
            MemoryBackend().execute(message)
