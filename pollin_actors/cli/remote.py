"""The inbox of a running server, through its admin API."""

from __future__ import annotations

import json
from base64 import b64decode
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from pollin_actors.cli.errors import CommandError, Unavailable, UserError, of_problem
from pollin_actors.cli.inbox import Claimed, Inbox, Json, only_backend
from pollin_actors.cli.urls import http_url
from pollin_actors.errors import MissingExtra
from pollin_actors.web.admin_api.schemas import COMPONENTS, ref
from pollin_actors.web.admin_api.table import Operation
from pollin_actors.web.admin_api.validation import Schema
from pollin_actors.web.admin_api.views import MASK

if TYPE_CHECKING:
    import httpx

__all__ = ["Remote", "http_client", "reason_of"]

_NDJSON = "application/x-ndjson"
# A replay takes as long as it takes.
_UNBOUNDED = {"replay"}
SILENCE_S = 30.0
"""Seconds without a line after which who follows takes a server for gone."""
_LOOPBACK = ("localhost", "127.", "[::1]", "::1")


def http_client(url: str, timeout: float, **options: Any) -> httpx.Client:
    """A client for one host; where that is this machine, the environment's proxies are none of it.

    Raises:
        MissingExtra: httpx is not installed.
    """
    try:
        import httpx
    except ImportError:
        raise MissingExtra("httpx", "cli") from None
    host = urlsplit(url).hostname or ""
    here = host.startswith(_LOOPBACK)
    return httpx.Client(timeout=timeout, trust_env=not here, follow_redirects=False, **options)


def reason_of(error: Exception) -> str:
    """What a failure to talk over HTTP was, in a few words."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.strerror:
            return cause.strerror
        cause = cause.__cause__ or cause.__context__
    return str(error) or type(error).__name__


class Remote(Inbox):
    """A running server.

    Args:
        url: where its admin API is mounted.
        token: of the admin API.
        timeout: seconds to wait for an answer.

    Raises:
        UserError: the URL or the token cannot be one.
        MissingExtra: httpx is not installed.
    """

    remote = True

    def __init__(self, url: str, token: str, timeout: float) -> None:
        self._base = self.where = _read_url(url)
        self._timeout = timeout
        self.date: str | None = None
        """What time it said it was, in its last answer."""
        self._client = http_client(
            self._base, timeout, headers={"authorization": f"Bearer {_read_token(token)}"}
        )

    @property
    def has_handlers(self) -> bool:
        """Those of the server's process."""
        return True

    def close(self) -> None:
        """Close its connections."""
        self._client.close()

    def _ask(self, operation: Operation, endpoint_id: str, query: Json, body: Json) -> Any:
        path = operation.path.replace("{endpoint_id}", quote(endpoint_id, safe=""))
        more: Json = {}
        if operation.body is not None:
            more["content"] = json.dumps(body).encode()
            more["headers"] = {"content-type": "application/json"}
        waits = self._timeout + float(body.get("wait", 0))
        more["timeout"] = None if operation.id in _UNBOUNDED else waits
        return self._answer(operation.method, path, operation.replies, params=_texts(query), **more)

    def _answer(
        self, method: str, path: str, replies: dict[int, Schema | None], **more: Any
    ) -> Any:
        import httpx

        try:
            answer = self._client.request(method, f"{self._base}{path}", **more)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error
        self.date = answer.headers.get("date")
        if not answer.is_success:
            raise self._refused(answer)
        schema = replies.get(answer.status_code)
        if schema is None and answer.status_code in replies:
            return None
        found = _json(answer)
        if schema is None or not _fits(found, schema):
            raise self._no_api()
        return found

    def _unreachable(self, error: Exception) -> Unavailable:
        import httpx

        if isinstance(error, httpx.TimeoutException):
            return Unavailable(
                f"{self.where} did not answer within {self._timeout:g} s: whether it was done is "
                "not known; look, then try again with a longer --timeout"
            )
        return Unavailable(
            f"{self.where} cannot be reached ({reason_of(error)}): check that it runs, and --server"
        )

    def _refused(self, answer: httpx.Response) -> CommandError:
        problem = _json(answer)
        kind = answer.headers.get("content-type", "").partition(";")[0]
        if not isinstance(problem, dict) or kind != "application/problem+json":
            return self._no_api(f" ({answer.status_code})")
        return of_problem(problem, self.where)

    def _no_api(self, status: str = "") -> Unavailable:
        return Unavailable(
            f"{self.where} does not answer as an admin API does{status}: give the URL that it is "
            "mounted at, such as http://127.0.0.1:8080/admin"
        )

    def claim(
        self, endpoint_id: str, phase: str | None, lease: float, wait: float, by: str
    ) -> Claimed | None:
        body = {"phase": phase, "lease": lease, "wait": wait, "by": by}
        claims = self.ask("claim", endpoint_id, body=body)["claims"]
        return _claimed(claims[0]) if claims else None

    def dump(self, endpoint_ids: Sequence[str], secrets: bool) -> Iterator[bytes]:
        import httpx

        if secrets:
            raise only_backend("--secrets", "a server never shows them")
        params = tuple(("endpoint_id", id) for id in endpoint_ids)
        try:
            with self._client.stream("GET", f"{self._base}/dump", params=params) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer)
                rest = b""
                for chunk in answer.iter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")
                    yield from [line + b"\n" for line in whole]
                if rest:
                    yield rest
        except httpx.HTTPError as error:
            raise self._unreachable(error) from error

    def follow(
        self,
        positions: Mapping[str, int],
        *,
        others: bool,
        kinds: Sequence[str] | None,
        interval: float,
    ) -> Iterator[Json | None]:
        import httpx

        endpoints = [{"endpoint_id": id, "position": at} for id, at in positions.items()]
        body: Json = {"endpoints": endpoints, "others": others}
        if kinds is not None:
            body["kinds"] = list(kinds)
        # Every few seconds there is a line, if only an empty one.
        timeout = httpx.Timeout(self._timeout, read=max(self._timeout, SILENCE_S))
        try:
            with self._client.stream(
                "POST", f"{self._base}/follow", json=body, timeout=timeout
            ) as answer:
                if not answer.is_success:
                    answer.read()
                    raise self._refused(answer)
                if answer.headers.get("content-type") != _NDJSON:
                    raise self._no_api()
                rest = b""
                for chunk in answer.iter_bytes():
                    *whole, rest = (rest + chunk).split(b"\n")
                    for line in whole:
                        yield json.loads(line) if line else None
        except httpx.ReadTimeout as error:
            raise Unavailable(
                f"{self.where} has said nothing for {timeout.read:g} s: check that it runs"
            ) from error
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise self._unreachable(error) from error

    def load(self, lines: Iterable[bytes]) -> Json:
        loaded: Json = self._answer(
            "POST",
            "/load",
            {200: ref("Loaded")},
            content=iter(lines),
            headers={"content-type": _NDJSON},
            timeout=None,
        )
        return loaded

    def sweep(self) -> int:
        raise only_backend("a sweep", "a server sweeps by itself, every few seconds")

    def scheme_and_secrets(self, endpoint_id: str) -> tuple[Any, tuple[Any, ...]]:
        raise only_backend("--endpoint", "a server never shows secrets; give --scheme and --secret")


def _json(answer: httpx.Response) -> Any:
    try:
        return answer.json()
    except (ValueError, RecursionError):
        return None


def _fits(value: Any, schema: Schema) -> bool:
    """Whether an answer has the names that it must have."""
    if "$ref" in schema:
        schema = COMPONENTS[schema["$ref"].rpartition("/")[2]]
    return isinstance(value, dict) and all(name in value for name in schema.get("required", ()))


def _read_url(text: str) -> str:
    url = http_url(text)
    if url is None:
        expected = "a URL such as http://127.0.0.1:8080/admin"
        # Not what came: it may be a token in the wrong place.
        raise UserError(
            f"--server: expected {expected}, got {len(text)} characters of another kind"
        )
    if url.username or url.password or url.query or url.fragment:
        raise UserError(
            "--server: expected a URL without a user, a query and a fragment, got one with: give "
            "the token as POLLIN_TOKEN"
        )
    return text.rstrip("/")


def _read_token(text: str) -> str:
    if not text:
        raise UserError("--server needs a token: give it as POLLIN_TOKEN, or as --token")
    if not all("!" <= character <= "~" for character in text):
        raise UserError("--token: expected printable ASCII without white space, got others")
    return text


def _texts(query: Json) -> list[tuple[str, str]]:
    pairs = []
    for name, value in query.items():
        for one in value if isinstance(value, list) else [value]:
            pairs.append((name, str(one).lower() if isinstance(one, bool) else str(one)))
    return pairs


def _claimed(claim: Json) -> Claimed:
    callback, key, token = claim["callback"], claim["key"], claim["token"]
    headers = [(name, value) for name, value in callback.get("headers", ()) if value != MASK]
    hidden = len(callback.get("headers", ())) - len(headers)
    body = None
    if "body" in callback:
        body = callback["body"].encode()
    elif "body_base64" in callback:
        body = b64decode(callback["body_base64"])
    return Claimed(key, token, claim["attempt"], headers, body, hidden)
