"""Who gets in: those who show the token, and nobody else, whatever they ask for."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from pollin_actors import Application, InvalidValue, MissingExtra, Secret
from pollin_actors.web import admin, asgi
from tests.web.admin_api.api import TOKEN, Api

OTHER = "another-token-of-the-tests"

REFUSED: list[Any] = [
    {},
    {"authorization": ""},
    {"authorization": "Bearer"},
    {"authorization": "Bearer "},
    {"authorization": f"Bearer {TOKEN}x"},
    {"authorization": f"Bearer {TOKEN[:-1]}"},
    {"authorization": f"Bearer {TOKEN.upper()}"},
    {"authorization": f"Bearer {TOKEN} {TOKEN}"},
    {"authorization": f"Basic {TOKEN}"},
    {"authorization": TOKEN},
    {"x-pollin-secret": TOKEN},
    {"authorization": b"Bearer " + "größer-als-sechzehn".encode()},
    {"authorization": b"Bearer \xff\xfe\x00\x80" + TOKEN.encode()},
    [("authorization", f"Bearer {TOKEN}"), ("authorization", f"Bearer {TOKEN}")],
    [("authorization", "Bearer wrong"), ("authorization", f"Bearer {TOKEN}")],
    [("authorization", f"Bearer {TOKEN}"), ("Authorization", "Basic x")],
]


@pytest.mark.parametrize("headers", REFUSED, ids=str)
def test_no_token_no_answer(memory: Application, headers: Any) -> None:
    """Missing, wrong, of another scheme, several, no text at all: 401, and nothing is told."""
    api = Api(memory, headers=headers)
    answer = api.request("GET", "")
    fields = api.problem(answer, 401, "unauthorized")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert set(fields) == {"type", "title", "status", "detail"}


@pytest.mark.parametrize("path", ["//openapi.json", "//nothing/here", "//ready", "//", "//dump"])
@pytest.mark.parametrize("method", ["GET", "POST", "DELETE", "OPTIONS", "HEAD", "TRACE"])
def test_nothing_is_public(memory: Application, method: str, path: str) -> None:
    """Not the document, and not even which routes there are."""
    answer = Api(memory, headers={}).request(method, path)
    assert answer.status_code == 401


@pytest.mark.parametrize("scheme", ["Bearer", "bearer", "BEARER", "Bearer  "])
def test_the_token_opens(memory: Application, scheme: str) -> None:
    api = Api(memory, headers={"authorization": f"{scheme} {TOKEN}"})
    assert api.get("")["id"] == "orders"


def test_several_tokens(memory: Application) -> None:
    """While one takes the place of another both open."""
    api = Api(memory)
    api.service = admin(memory, token=[Secret(OTHER), TOKEN])
    for token in (TOKEN, OTHER):
        headers = {"authorization": f"Bearer {token}"}
        assert api.request("GET", "", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "token",
    [
        *("", "too-short", "x" * 15, "x" * 1_001, Secret("short"), [TOKEN, "a"], []),
        *("größer-als-sechzehn", "with white space in it", "with-a-line\nbreak-in-it"),
        *(b"bytes-are-no-token", None, 16),
    ],
    ids=repr,
)
def test_off_unless_a_strong_token_is_set(memory: Application, token: Any) -> None:
    """What could be guessed, or could not be sent, is refused at once; it is not shown."""
    with pytest.raises(InvalidValue, match=r"token: expected .*, got ") as caught:
        admin(memory, token=token)
    if isinstance(token, str) and len(token) > 1:
        assert token not in str(caught.value)


def test_a_token_is_demanded(memory: Application) -> None:
    with pytest.raises(TypeError):
        admin(memory)  # type: ignore[call-arg]


@pytest.mark.parametrize("timeout", [0, -1, float("nan"), float("inf"), True, "5"])
def test_the_timeout_is_a_time(memory: Application, timeout: Any) -> None:
    with pytest.raises(InvalidValue, match="timeout: expected a number of seconds"):
        admin(memory, token=TOKEN, timeout=timeout)


def test_the_token_is_nowhere_to_be_seen(memory: Application) -> None:
    """Not in a repr of what holds it."""
    service = admin(memory, token=TOKEN)
    assert TOKEN not in repr(service.user_middleware)
    assert TOKEN not in repr(vars(service))


def test_it_is_no_part_of_the_public_path(memory: Application) -> None:
    """The receiver has none of its routes, and mounted beside it it is found under its prefix."""
    routes = [Mount("/hooks", asgi(memory)), Mount("/admin", admin(memory, token=TOKEN))]
    api = Api(memory)
    api.service = Starlette(routes=routes)
    assert api.get("//admin/openapi.json")["servers"] == [{"url": "/admin"}]
    assert api.get("//admin/endpoints/orders")["id"] == "orders"
    for path in ("openapi.json", "endpoints", "endpoints/orders"):
        assert api.request("GET", f"//hooks/{path}").status_code in (404, 405)


def test_without_starlette(memory: Application, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error says which extra brings it."""
    monkeypatch.setitem(sys.modules, "starlette.applications", None)
    monkeypatch.delitem(sys.modules, "pollin_actors.web.admin_api.service", raising=False)
    with pytest.raises(MissingExtra) as caught:
        admin(memory, token=TOKEN)
    assert (caught.value.package, caught.value.extra) == ("starlette", "server")


def test_the_receiver_needs_no_starlette() -> None:
    """Nor does the name of the admin API, until it is used."""
    program = (
        "import sys; from pollin_actors.web import admin, asgi; "
        "assert not {'starlette', 'anyio'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60)
