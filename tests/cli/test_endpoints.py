"""Which endpoints `pollin serve` receives for, and what of a backend's URL it shows."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pollin_actors import Application, Endpoint
from pollin_actors.cli import serve
from pollin_actors.cli.banner import url_of
from pollin_actors.cli.errors import UserError
from pollin_actors.cli.urls import without_credentials


@pytest.fixture
def app() -> Iterator[Application]:
    with Application() as running:
        yield running


def test_an_endpoint_that_is_missing_is_created(app: Application) -> None:
    asked = Endpoint.new(id="orders", secret="sesame")

    assert serve._ensure(app, asked, None) == asked
    assert app.endpoints.index().get() == [asked]


@pytest.mark.parametrize("secret", [None, "stored"])
def test_an_endpoint_that_exists_is_kept(app: Application, secret: str | None) -> None:
    """With its secret, its phases and its ttl, whatever is asked for."""
    stored = Endpoint.new(["a", "b"], 5000, id="orders", secret="stored")
    app.endpoints.create(stored).get()
    asked = Endpoint.new(["c"], 0, id="orders", secret=secret)

    assert serve._ensure(app, asked, secret) == stored
    assert app.endpoints.index().get() == [stored]


def test_an_endpoint_that_exists_with_another_secret_is_an_error(app: Application) -> None:
    """The line shown would not work; neither secret is in the error."""
    app.endpoints.create(Endpoint.new(id="orders", secret="stored")).get()

    with pytest.raises(UserError, match="leave out --secret and POLLIN_SECRET") as caught:
        serve._ensure(app, Endpoint.new(id="orders", secret="given"), "given")
    assert "'orders'" in str(caught.value)
    assert "stored" not in str(caught.value)
    assert "given" not in str(caught.value)


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("memory://", "memory://"),
        ("sqlite:///inbox.db", "sqlite:///inbox.db"),
        ("postgresql://db.example.org/inbox", "postgresql://db.example.org/inbox"),
        ("postgresql://me:pw@db:5432/inbox", "postgresql://**********@db:5432/inbox"),
        ("postgresql://me:p@w/d?@db/inbox?password=x", "postgresql://**********@db/inbox"),
    ],
)
def test_passwords_in_a_url_are_not_shown(url: str, shown: str) -> None:
    assert without_credentials(url) == shown


@pytest.mark.parametrize(
    ("host", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("fe80::1%eth0", "http://[fe80::1%25eth0]:80"),
    ],
)
def test_addresses_become_urls(host: str, url: str) -> None:
    assert url_of(host, 80) == url
