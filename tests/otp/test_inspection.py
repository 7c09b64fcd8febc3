"""Looking at a tree: as data, as text, at any moment of its life."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from pollin_actors.otp import (
    Backoff,
    ChildSpec,
    ChildState,
    DynamicSupervisor,
    Simulation,
    Supervisor,
    SupervisorRef,
    TreeNode,
)
from tests.otp.actors import Echo, MayBlock


class Crash(Exception):
    """A handler's mistake."""


class Talkative(Echo):
    """Tells more of its state than the default does."""

    def format_state(self) -> Any:
        return {"tag": self.tag}


class Reluctant(Echo):
    """Does not end when it should."""

    def on_stop(self) -> None:
        self.tag()  # type: ignore[operator]


@pytest.fixture(params=range(8))
def simulation(request: pytest.FixtureRequest) -> Iterator[Simulation]:
    with Simulation(seed=request.param) as simulation:
        yield simulation


def start(simulation: Simulation, **options: Any) -> SupervisorRef[Any]:
    """A root with a worker, a supervisor of two, and a dynamic one of two."""
    inner = [
        ChildSpec(id="left", name="left", start=Talkative),
        ChildSpec(id="right", start=MayBlock),
    ]
    supervisor = Supervisor.start(
        [
            ChildSpec(id="worker", name="worker", start=lambda: Echo(tag="s3cret")),
            ChildSpec(
                id="inner",
                type="supervisor",
                start=lambda: Supervisor(inner, strategy="rest_for_one"),
            ),
            ChildSpec(id="many", name="many", type="supervisor", start=DynamicSupervisor),
        ],
        runtime=simulation.runtime,
        **options,
    )
    many = simulation.runtime.registry.whereis("many")
    assert isinstance(many, SupervisorRef)
    for name in "xy":
        many.start_child(ChildSpec(id=name, name=name, start=Echo)).get()
    return supervisor


def by_id(root: TreeNode) -> dict[Any, TreeNode]:
    return {node.id: node for node in root.walk()}


def test_the_tree_is_whole_and_in_the_order_of_starts(simulation: Simulation) -> None:
    root = start(simulation).tree().get()
    ids = [node.id for node in root.walk()]
    assert ids == ["Supervisor", "worker", "inner", "left", "right", "many", "x", "y"]
    assert {node.state for node in root.walk()} == {ChildState.RUNNING}
    nodes = by_id(root)
    assert nodes["inner"].type == "supervisor"
    assert nodes["inner"].strategy == "rest_for_one"
    assert nodes["worker"].type == "worker"
    assert (nodes["left"].actor, nodes["left"].name, nodes["left"].generation) == (
        "Talkative",
        "left",
        1,
    )
    assert nodes["right"].generation == 0


def test_uptime_restarts_and_the_last_crash(simulation: Simulation) -> None:
    """They follow virtual time; the report says nothing of values unless the actor does."""
    supervisor = start(simulation)
    simulation.advance(10.0)
    registry = simulation.runtime.registry
    for name in ("worker", "left"):
        registry.tell(name, Crash("broken"))
    simulation.advance(2.5)
    nodes = by_id(supervisor.tree().get())
    assert nodes["Supervisor"].uptime == pytest.approx(12.5)
    for name in ("worker", "left"):
        node = nodes[name]
        assert node.uptime == pytest.approx(2.5)
        assert (node.restarts, node.generation) == (1, 2)
        crash = node.last_crash
        assert crash is not None
        assert crash.error == "Crash('broken')"
        assert crash.message == "Crash"
        assert crash.at == simulation.clock.time_ns() - 2_500_000_000
    assert nodes["right"].restarts == 1  # with its sibling
    assert nodes["right"].last_crash is None
    left, worker = nodes["left"].last_crash, nodes["worker"].last_crash
    assert left is not None
    assert worker is not None
    assert left.state == {"tag": None}
    assert worker.state == {"log": "list", "tag": "str"}
    assert "s3cret" not in str(supervisor.tree().get())


def test_messages_that_wait_are_counted(simulation: Simulation) -> None:
    supervisor = start(simulation)
    registry = simulation.runtime.registry
    spec = ChildSpec(id="z", name="z", start=lambda: Echo().fail())  # type: ignore[attr-defined]
    broken = DynamicSupervisor.start(
        runtime=simulation.runtime, backoff=Backoff(first=100.0, most=100.0), max_restarts=100
    )
    with pytest.raises(Exception, match="did not start"):
        broken.start_child(spec).get()
    asked = [registry.ask("worker", number, timeout=None) for number in range(3)]
    tree = supervisor.tree()
    simulation.settle()
    assert by_id(tree.get())["worker"].mailbox <= 3
    assert [future.get() for future in asked] == [0, 1, 2]
    assert by_id(supervisor.tree().get())["worker"].mailbox == 0


def test_a_child_that_waits_for_its_restart(simulation: Simulation) -> None:
    """The tree says restarting, and has neither class nor uptime of it."""
    first = True

    def make() -> Echo:
        nonlocal first
        if not first:
            raise Crash("not now")
        first = False
        return Echo()

    supervisor = Supervisor.start(
        [ChildSpec(id="a", name="a", start=make)],
        runtime=simulation.runtime,
        backoff=Backoff(first=10.0, most=10.0, jitter=0.0),
    )
    simulation.runtime.registry.tell("a", Crash("the first"))
    simulation.settle()
    node = by_id(supervisor.tree().get())["a"]
    assert (node.state, node.actor, node.uptime) == (ChildState.RESTARTING, None, None)
    assert node.last_crash is not None
    assert node.last_crash.error == "Crash('not now')"
    assert "a  worker  restarting  restarts 1  last crash " in str(supervisor.tree().get())


def test_a_tree_that_is_being_stopped_can_be_looked_at(simulation: Simulation) -> None:
    """Supervisors answer this call also when they take no others any more."""
    seen: list[TreeNode] = []

    class Looking(MayBlock):
        def on_stop(self) -> None:
            seen.append(supervisor.tree().get())

    specs = [ChildSpec(id="a", start=Looking), ChildSpec(id="b", start=Echo)]
    supervisor = Supervisor.start(specs, runtime=simulation.runtime)
    supervisor.stop()
    (root,) = seen
    assert [node.state for node in root.walk()] == ["stopping", "stopping", "stopped"]


def test_the_text_has_one_line_for_each_actor(simulation: Simulation) -> None:
    supervisor = start(simulation)
    simulation.runtime.registry.tell("left", Crash("two\nlines " + "x" * 200))
    simulation.advance(3_700.0)
    text = str(supervisor.tree().get())
    lines = text.splitlines()
    assert len(lines) == 8
    assert lines[0] == "Supervisor  Supervisor, one_for_one  running  up 01:01:40"
    assert lines[1] == "├── worker  Echo  running  up 01:01:40"
    assert lines[2] == "├── inner  Supervisor, rest_for_one  running  up 01:01:40"
    assert lines[3].startswith("│   ├── left  Talkative  running  up 01:01:40  restarts 1  last cr")
    assert lines[3].endswith("xxx...")
    assert lines[7] == "    └── y  Echo  running  up 01:01:40"


def test_days_are_told_apart(simulation: Simulation) -> None:
    supervisor = start(simulation)
    simulation.advance(200_000.0)
    assert "up 2 d 07:33:20" in str(supervisor.tree().get())


def test_the_abandoned_are_counted(simulation: Simulation) -> None:
    """A child that did not end in time is no child any more, but its supervisor remembers."""

    def wait() -> None:
        simulation.advance(2.0)  # time passes while it is in its last turn

    supervisor = Supervisor.start(
        [ChildSpec(id="a", start=lambda: Reluctant(tag=wait), shutdown=1.0)],
        runtime=simulation.runtime,
    )
    supervisor.terminate_child("a", timeout=None).get()
    root = supervisor.tree().get()
    assert root.unstopped == 1
    assert "unstopped 1" in str(root)
