"""Which server holds a key: the only one, or one of a cluster."""

from __future__ import annotations

from binascii import crc_hqx
from bisect import bisect_right
from typing import Any

import structlog

from pollin_actors.backends.valkey.address import Address
from pollin_actors.backends.valkey.node import Node, connector, errors
from pollin_actors.errors import BackendUnavailable

__all__ = ["Topology", "slot_of"]

log = structlog.get_logger("pollin_actors.backends")

VERSION = 1
"""How what is stored is laid out."""


def slot_of(key: bytes) -> int:
    """The hash slot of a key: of what is in its braces."""
    start = key.find(b"{")
    if start >= 0:
        end = key.find(b"}", start + 1)
        if end > start + 1:
            key = key[start + 1 : end]
    return crc_hqx(key, 0) % 16384


class Topology:
    """The servers of a store. One thread at a time may use it.

    Arguments:
        address: of the only server, or of one of the cluster.
    """

    def __init__(self, address: Address) -> None:
        self._address = address
        self._connect = connector(address)
        self._seed = Node(address.label, self._connect)
        self.is_cluster = False
        self.durability = "unknown"
        self._is_known = False
        # Of a cluster: where ranges of slots begin, and whose they are.
        self._starts: list[int] = []
        self._owners: list[Node] = []
        self._nodes: dict[tuple[str, int], Node] = {}
        self._reported = ""

    def key(self, name: str) -> bytes:
        """A key of the whole store; all of these are in one slot."""
        return f"{self._address.prefix}:{{:}}{name}".encode()

    # A connection that was lost may lead to another server next time: it is looked at again.

    def open(self) -> None:
        """Connect, if need be, and look whether the store is one of ours.

        Raises:
            BackendUnavailable: it is of a newer version, or may be evicted.
            Exception: the client's errors.
        """
        if self._is_known:
            return
        seed = self._seed
        seed.open()
        mode = self._address.cluster
        self.is_cluster = self._asks_cluster(seed) if mode is None else mode
        if self.is_cluster:
            self._find_slots(seed)
        for node in self.nodes():
            node.open()
        self._check_memory(seed)
        self._check_version()
        self._look_at_durability(seed)
        self._is_known = True

    def look_again(self) -> None:
        """Connect, and find the owners of slots, anew."""
        self._is_known = False
        self._seed.close()

    def nodes(self) -> list[Node]:
        """The servers that take changes."""
        return list(dict.fromkeys(self._owners)) if self.is_cluster else [self._seed]

    def node_of(self, key: bytes) -> Node:
        """The server that holds a key."""
        if not self.is_cluster:
            return self._seed
        return self._owners[bisect_right(self._starts, slot_of(key)) - 1]

    def slot_on(self, node: Node) -> int:
        """A slot that this server holds."""
        return self._starts[self._owners.index(node)] if self.is_cluster else 0

    def close(self) -> None:
        """Let go of all connections."""
        self._is_known = False
        for node in (self._seed, *self._nodes.values()):
            node.close()

    def _asks_cluster(self, node: Node) -> bool:
        return self._info(node, b"cluster").get("cluster_enabled") == "1"

    def _info(self, node: Node, section: bytes) -> dict[str, str]:
        import valkey.exceptions as client

        try:
            text = node.ask(b"INFO", section).decode("utf-8", "replace")
        except client.ResponseError:
            return {}  # not every user may ask
        pairs = (line.partition(":") for line in text.splitlines())
        return {name: value for name, _, value in pairs}

    def _find_slots(self, node: Node) -> None:
        found = []
        for first, _, (host, port, *_), *_ in node.ask(b"CLUSTER", b"SLOTS"):
            name = host.decode() if host else self._address.connection.get("host", "localhost")
            found.append((int(first), (name, int(port))))
        if not found:
            reason = f"{self._address.label}: the cluster has no slots"
            raise BackendUnavailable("valkey", reason, "wait until it is made, then try again")
        found.sort()
        self._starts = [first for first, _ in found]
        self._owners = [self._node(*where) for _, where in found]
        for where in self._nodes.keys() - {where for _, where in found}:
            self._nodes.pop(where).close()

    def _node(self, host: str, port: int) -> Node:
        node = self._nodes.get((host, port))
        if node is None:

            def connect() -> Any:
                return self._connect(host=host, port=port)

            node = self._nodes[host, port] = Node(f"{host}:{port}", connect)
        return node

    def _check_memory(self, node: Node) -> None:
        found = self._info(node, b"memory")
        policy = found.get("maxmemory_policy", "noeviction")
        # Those for volatile keys find none of ours.
        if policy.startswith("allkeys"):
            reason = f"{self._address.label}: maxmemory-policy is {policy}"
            if found.get("maxmemory") not in (None, "0"):
                reason += ", so that the server would silently drop what was stored"
                hint = "set maxmemory-policy to noeviction, or use another server"
                raise BackendUnavailable("valkey", reason, hint)
            log.warning("backend.may_evict", server=self._address.label, policy=policy)

    def _check_version(self) -> None:
        key = self.key("version")
        node = self.node_of(key)
        found = node.ask(b"GET", key)
        if found is None:
            node.ask(b"SET", key, b"%d" % VERSION, b"NX")
            found = node.ask(b"GET", key)
        if not found.isdigit() or int(found) != VERSION:
            reason = (
                f"{self._address.label}: the store {self._address.prefix!r} has the version "
                f"{found.decode('utf-8', 'replace')[:20]!r}, this is {VERSION}; it was left untouched"
            )
            raise BackendUnavailable("valkey", reason, "upgrade pollin-actors, or use another prefix")

    def _look_at_durability(self, node: Node) -> None:
        import valkey.exceptions as client

        try:
            reply = node.ask(b"CONFIG", b"GET", b"append*")
            save = node.ask(b"CONFIG", b"GET", b"save")
        except client.ResponseError:
            self.durability = "unknown"
        else:
            texts = [item.decode() for item in reply]
            found = dict(zip(texts[::2], texts[1::2], strict=True))
            if found.get("appendonly") == "yes":
                self.durability = {"no": "system"}.get(
                    found.get("appendfsync", ""), found.get("appendfsync", "unknown")
                )
            else:
                self.durability = "snapshots" if save[1:] and save[1] else "none"
        if self.durability != self._reported:
            self._reported = self.durability
            log.info("backend.durability", server=self._address.label, durability=self.durability)


__all__ += ["errors"]
