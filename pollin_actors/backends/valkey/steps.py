"""Operations of several steps: on endpoints, whose list is in another place than they are.

The list of endpoints is in a hash slot of its own. It is written before an endpoint is made and
after one was deleted, and the endpoint's own record is the truth: a process that ends in between
leaves a name in the list behind which there is nothing, which is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from itertools import islice
from types import MappingProxyType
from typing import Any

from pollin_actors import messages
from pollin_actors.backends.checks import check_expected, endpoint_of, natural, rotated, text
from pollin_actors.backends.valkey.encoding import (
    encoded,
    endpoint_key,
    read_endpoint,
    terms,
    write_endpoint,
)
from pollin_actors.backends.valkey.exchange import Exchange
from pollin_actors.backends.valkey.node import packed
from pollin_actors.backends.valkey.topology import slot_of
from pollin_actors.errors import (
    BackendUnavailable,
    EndpointExists,
    EndpointNotFound,
    UnknownPhase,
)
from pollin_actors.resources import Endpoint

__all__ = ["STEPS", "check"]

# Endpoints that one sweep looks at; the next one goes on there.
_SWEPT = 1000
_AT_ONCE = 100
_MOST = 10**6


def check(message: Any) -> None:
    """Look at the fields of a message before it is sent.

    Raises:
        InvalidValue: one of them is not acceptable.
    """
    if isinstance(message, messages.CreateEndpoint | messages.UpdateEndpoint):
        write_endpoint(endpoint_of(message))
    elif isinstance(message, messages.Sweep):
        natural("Sweep.limit", message.limit)
    elif not isinstance(message, (messages.IndexEndpoints, messages.CheckReady)):
        text(message, "endpoint_id")
        if isinstance(message, messages.Consume):
            text(message, "phase")


def _index(exchange: Exchange, message: messages.IndexEndpoints) -> list[Endpoint]:
    names = _names(exchange)
    found: list[tuple[int, Endpoint]] = []
    rest = iter(names)
    while some := list(islice(rest, _AT_ONCE)):
        keys = [_named(exchange, name) for name in some]
        asked = [(key, exchange.command("find_endpoint", key, b"", [])) for key in keys]
        for reply in exchange.ask_all(asked):
            if isinstance(reply, BackendUnavailable):
                raise reply
            _, text_, number = reply
            if text_:
                found.append((int(number), read_endpoint(text_, exchange.label)))
    found.sort(key=lambda item: item[0])
    return [endpoint for _, endpoint in found]


def _names(exchange: Exchange) -> list[bytes]:
    key = exchange.topology.key("endpoints")
    names: list[bytes] = exchange.ask(key, packed(b"ZRANGE", key, b"0", b"-1"))
    return names


def _named(exchange: Exchange, name: bytes) -> bytes:
    return endpoint_key(exchange.prefix, name.decode())


def _create(exchange: Exchange, message: messages.CreateEndpoint) -> Endpoint:
    endpoint = endpoint_of(message)
    name, key = encoded(endpoint.id), endpoint_key(exchange.prefix, endpoint.id)
    listed, counter = exchange.topology.key("endpoints"), exchange.topology.key("created")
    number = b"%d" % exchange.ask(counter, packed(b"INCR", counter))
    exchange.ask(listed, packed(b"ZADD", listed, number, name))
    reply = exchange.call("create", key, number, write_endpoint(endpoint), *terms(endpoint))
    if reply[0] == b"exists":
        # Whoever deletes it knows it by its number.
        exchange.call("relist", listed, name, number, reply[1])
        raise EndpointExists(endpoint.id)
    # Who has deleted the one before it may have taken the name out meanwhile, if somebody else had
    # given it back the number of that one. A later one keeps its own.
    exchange.ask(listed, packed(b"ZADD", listed, b"GT", number, name))
    return endpoint


def _delete(exchange: Exchange, message: messages.DeleteEndpoint) -> bool:
    endpoint_id = text(message, "endpoint_id")
    key, listed = endpoint_key(exchange.prefix, endpoint_id), exchange.topology.key("endpoints")
    _, number = exchange.call("delete_endpoint", key)
    if not number:
        return False
    exchange.call("unlist", listed, encoded(endpoint_id), number)
    return True


def _found(exchange: Exchange, endpoint_id: str) -> tuple[bytes, Endpoint]:
    stored = exchange.call("find_endpoint", endpoint_key(exchange.prefix, endpoint_id))[1]
    if not stored:
        raise EndpointNotFound(endpoint_id)
    return stored, read_endpoint(stored, exchange.label)


def _change(
    exchange: Exchange, endpoint_id: str, phase: bytes, change: Callable[[Endpoint], Endpoint]
) -> Endpoint:
    """Read an endpoint and write what has become of it, unless another was quicker: then again."""
    key = endpoint_key(exchange.prefix, endpoint_id)
    while True:
        stored, endpoint = _found(exchange, endpoint_id)
        changed = change(endpoint)
        if changed is endpoint:
            return endpoint
        values = (stored, phase, write_endpoint(changed), *terms(changed))
        reply = exchange.call("update", key, *values)
        if reply[0] == b"ok":
            return changed
        if reply[0] == b"no endpoint":
            raise EndpointNotFound(endpoint_id)


def _update(exchange: Exchange, message: messages.UpdateEndpoint) -> Endpoint:
    endpoint = endpoint_of(message)

    def change(stored: Endpoint) -> Endpoint:
        check_expected(message, stored)
        return endpoint

    if message.expect is not None:
        return _change(exchange, endpoint.id, b"", change)
    # One that cannot be read may be replaced, so it is not looked at.
    key = endpoint_key(exchange.prefix, endpoint.id)
    values = (b"", b"", write_endpoint(endpoint), *terms(endpoint))
    reply = exchange.call("update", key, *values)
    while reply[0] == b"again":  # much has expired there, and it has got on with that
        reply = exchange.call("update", key, *values)
    if reply[0] == b"no endpoint":
        raise EndpointNotFound(endpoint.id)
    return endpoint


def _consume(exchange: Exchange, message: messages.Consume) -> Endpoint:
    phase = text(message, "phase")

    def change(endpoint: Endpoint) -> Endpoint:
        if phase not in endpoint.phases:
            raise UnknownPhase(endpoint.id, phase, endpoint.phases)
        if phase in endpoint.consumes:
            return endpoint
        return endpoint.replace(consumes=(*endpoint.consumes, phase))

    return _change(exchange, text(message, "endpoint_id"), b"p" + encoded(phase), change)


def _rotate(exchange: Exchange, message: messages.RotateSecret) -> Endpoint:
    def change(endpoint: Endpoint) -> Endpoint:
        return rotated(message, endpoint, exchange.time_ns())

    return _change(exchange, text(message, "endpoint_id"), b"", change)


def _check_ready(exchange: Exchange, message: messages.CheckReady) -> None:
    exchange.open()
    for node in exchange.topology.nodes():
        key = _on_slot(exchange, exchange.topology.slot_on(node))
        exchange.ask(key, packed(b"SET", key, b"1"))


def _on_slot(exchange: Exchange, slot: int) -> bytes:
    """A key to try out, in that slot if there are several servers."""
    number = 0
    if exchange.topology.is_cluster:
        while slot_of(b"{:%d}" % number) != slot:
            number += 1
    return f"{exchange.prefix}:{{:{number}}}trial".encode()


def _sweep(exchange: Exchange, message: messages.Sweep) -> int:
    limit = natural("Sweep.limit", message.limit)
    names = _names(exchange)
    first = exchange.swept % len(names) if names else 0
    order = (names[first:] + names[:first])[:_SWEPT]
    exchange.swept = first + len(order)
    expired = forgotten = 0
    failure: BackendUnavailable | None = None
    while order:
        left = limit - expired
        some = order[: min(_AT_ONCE, left or _AT_ONCE)]
        share = left // len(some), max(0, limit - forgotten)
        numbers = [b"%d" % min(number, _MOST) for number in share]
        keys = [_named(exchange, name) for name in some]
        asked = [(key, exchange.command("sweep", key, b"", numbers)) for key in keys]
        more = []
        for name, reply in zip(some, exchange.ask_all(asked), strict=True):
            if isinstance(reply, BackendUnavailable):
                failure = reply  # the others are swept all the same
                continue
            if reply[0] != b"ok":
                continue  # it is not there any more
            _, gone, past, most = reply
            expired, forgotten = expired + gone, forgotten + past
            # It did as much as it was to, or as one call may: there may be more.
            if (gone and gone >= min(share[0], most)) or (past and past >= min(share[1], most)):
                more.append(name)
        order = more + order[len(some) :]
        if expired >= limit and forgotten >= limit:
            break
    if failure is not None and not expired:
        raise failure
    return expired


STEPS: Mapping[type, Callable[[Exchange, Any], Any]] = MappingProxyType(
    {
        messages.IndexEndpoints: _index,
        messages.CreateEndpoint: _create,
        messages.UpdateEndpoint: _update,
        messages.DeleteEndpoint: _delete,
        messages.Consume: _consume,
        messages.RotateSecret: _rotate,
        messages.CheckReady: _check_ready,
        messages.Sweep: _sweep,
    }
)
"""What takes more than one call. While one of them is at work nothing else is in flight."""
