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

# After so many single slots it is better to ask for all.
_MOST_MOVED = 32


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
        self._seed = Node(address.label, self._connect(), self._look_at)
        self.is_cluster = False
        self.durability = "unknown"
        self._is_known = False
        # Of a cluster: where ranges of slots begin, and whose they are.
        self._starts: list[int] = []
        self._owners: list[Node] = []
        self._nodes: dict[tuple[str, int], Node] = {}
        # What servers have said since: theirs is the last word on single slots.
        self._moved: dict[int, Node] = {}
        self._reported = ""
        self._is_checked = False
        self._is_renewed = True

    def key(self, name: str) -> bytes:
        """A key of the whole store; all of these are in one slot."""
        return f"{self._address.prefix}:{{:}}{name}".encode()

    def open(self) -> None:
        """Connect to the server, or find out which ones there are, if that is not known.

        Raises:
            BackendUnavailable: it is of a newer version, or may be evicted.
            Exception: the client's errors.
        """
        if not self._is_known:
            self._find()
            self._is_known = True

    @property
    def is_known(self) -> bool:
        """Whether it is known which servers there are."""
        return self._is_known

    def places(self) -> list[tuple[str, int]]:
        """Hosts and ports of the servers of a cluster. Any thread may ask."""
        return list(self._nodes)

    def look_again(self) -> None:
        """Find out anew which servers there are, and whose slots are whose: with the next open."""
        self._is_known = False
        self._is_renewed = False

    def nodes(self) -> list[Node]:
        """The servers that take changes."""
        owners = (*self._owners, *self._moved.values())
        return list(dict.fromkeys(owners)) if self.is_cluster else [self._seed]

    def node_of(self, key: bytes) -> Node:
        """The server that holds a key."""
        if not self.is_cluster:
            return self._seed
        slot = slot_of(key)
        return self._moved.get(slot) or self._owners[bisect_right(self._starts, slot) - 1]

    def moved(self, slot: int, host: str, port: int) -> None:
        """Remember that another server has this slot, as one of them has said."""
        self._moved[slot] = self._node(host or str(self._address.connection.get("host")), port)
        if len(self._moved) > _MOST_MOVED:
            self.look_again()

    def slot_on(self, node: Node) -> int:
        """A slot that this server holds."""
        if not self.is_cluster:
            return 0
        if node in self._owners:
            return self._starts[self._owners.index(node)]
        return next(slot for slot, owner in self._moved.items() if owner is node)

    def close(self) -> None:
        """Let go of all connections."""
        self._is_known = False
        for node in (self._seed, *self._nodes.values()):
            node.close()

    # -- finding out -------------------------------------------------------------------------------

    def _find(self) -> None:
        if not self._is_renewed:
            # Its name may be another server's by now.
            self._seed.close()
            self._is_renewed = True
        if not self.is_cluster:
            self._seed.open()
            return
        # Any of them will do, if the one of the address is away.
        failure: Exception | None = None
        for node in (self._seed, *self._nodes.values()):
            try:
                node.open()
                self._find_slots(node)
            except errors() as error:
                node.close()
                failure = failure or error
            else:
                return
        if failure is not None:
            raise failure

    def _look_at(self, node: Node) -> None:
        """Look at a server that was just connected: it may be another one than last time."""
        if node is self._seed:
            mode = self._address.cluster
            self.is_cluster = self._is_of_cluster(node) if mode is None else mode
            if self.is_cluster:
                self._find_slots(node)
        self._check_memory(node)
        holder = self.node_of(self.key("version"))
        if holder is node:
            self._check_version(node)
        elif not self._is_checked:
            # Before anything is written anywhere.
            holder.open()
        self._look_at_durability(node)

    def _is_of_cluster(self, node: Node) -> bool:
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
        self._moved.clear()
        found.sort()
        self._starts = [first for first, _ in found]
        self._owners = [self._node(*where) for _, where in found]
        for where in self._nodes.keys() - {where for _, where in found}:
            self._nodes.pop(where).close()

    def _node(self, host: str, port: int) -> Node:
        node = self._nodes.get((host, port))
        if node is None:
            connection = self._connect(host=host, port=port)
            node = self._nodes[host, port] = Node(f"{host}:{port}", connection, self._look_at)
        return node

    def _check_memory(self, node: Node) -> None:
        found = self._info(node, b"memory")
        policy = found.get("maxmemory_policy", "noeviction")
        # Those for volatile keys find none of ours.
        if not policy.startswith("allkeys"):
            return
        if found.get("maxmemory", "0") == "0":
            log.warning("backend.might_evict", server=node.label, policy=policy)
            return
        reason = (
            f"{node.label}: maxmemory-policy is {policy}, so that the server would silently drop "
            "what was stored"
        )
        hint = "set maxmemory-policy to noeviction, or use another server"
        raise BackendUnavailable("valkey", reason, hint)

    def _check_version(self, node: Node) -> None:
        key = self.key("version")
        found = node.ask(b"GET", key)
        if found is None:
            node.ask(b"SET", key, b"%d" % VERSION, b"NX")
            found = node.ask(b"GET", key)
        if found != b"%d" % VERSION:
            version = found.decode("utf-8", "replace")[:20]
            reason = (
                f"{self._address.label}: the store with the prefix {self._address.prefix!r} has "
                f"the version {version!r}, this is {VERSION}; it was left untouched"
            )
            hint = "upgrade pollin-actors, or use another prefix"
            raise BackendUnavailable("valkey", reason, hint)
        self._is_checked = True

    def _look_at_durability(self, node: Node) -> None:
        self.durability = _durability(node)
        if self.durability != self._reported:
            self._reported = self.durability
            log.info("backend.durability", server=node.label, durability=self.durability)


def _durability(node: Node) -> str:
    import valkey.exceptions as client

    found: dict[str, str] = {}
    try:
        for name in (b"append*", b"save"):
            texts: list[Any] = [item.decode() for item in node.ask(b"CONFIG", b"GET", name)]
            found.update(zip(texts[::2], texts[1::2], strict=True))
    except client.ResponseError:
        return "unknown"
    if found.get("appendonly") == "yes":
        policy = found.get("appendfsync", "unknown")
        return "system" if policy == "no" else policy
    return "snapshots" if found.get("save") else "none"
