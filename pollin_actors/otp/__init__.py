"""Actors and supervision as Erlang/OTP does them, on Pykka.

Knows nothing of webhooks: use it for actors of your own.
"""

from pollin_actors.otp.actor import Actor, BlockingActor, Ref
from pollin_actors.otp.adoption import adopt
from pollin_actors.otp.arrivals import ActorTimer, IdleTimeout, Monitor
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.children import (
    ChildCounts,
    ChildInfo,
    ChildState,
    CountChildren,
    DeleteChild,
    GetChildSpec,
    LastCrash,
    RestartChild,
    StartChild,
    TerminateChild,
    WhichChild,
    WhichChildren,
)
from pollin_actors.otp.clock import Clock, SystemClock
from pollin_actors.otp.dynamic_supervisor import DynamicSupervisor, EnsureChild
from pollin_actors.otp.errors import (
    ActorCrashed,
    ActorDead,
    AlreadyPresent,
    AlreadyRegistered,
    AlreadySettled,
    AlreadyStarted,
    CallCycle,
    ChildNotFound,
    ChildRestarting,
    ChildRunning,
    DeadlineExceeded,
    IntensityExceeded,
    InvalidSpec,
    MailboxFull,
    MaxChildren,
    NameNotFound,
    NotOwner,
    OtpError,
    PoolExhausted,
    SimulationStuck,
    StartFailed,
    UnknownMessage,
    WouldBlock,
)
from pollin_actors.otp.events import (
    AutoShutdown,
    Crashed,
    Event,
    EventHook,
    Exited,
    GaveUp,
    OrphanAbandoned,
    Restarting,
    Started,
    StartRefused,
    Unstopped,
    log_event,
)
from pollin_actors.otp.exits import ExitReason, ExitRecord, Shutdown, Stop
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.handle import NamedSupervisor, SupervisorRef
from pollin_actors.otp.inspection import Inspect, TreeNode
from pollin_actors.otp.intensity import Backoff, Intensity
from pollin_actors.otp.later import Later
from pollin_actors.otp.partition_supervisor import Partitions, PartitionSupervisor
from pollin_actors.otp.pool import ThreadPool
from pollin_actors.otp.registry import Entry, Registry
from pollin_actors.otp.runtime import Runtime, default_runtime
from pollin_actors.otp.simulation import Simulation
from pollin_actors.otp.starting import start_actor
from pollin_actors.otp.supervisor import Supervisor

__all__ = [
    "Actor",
    "ActorCrashed",
    "ActorDead",
    "ActorTimer",
    "AlreadyPresent",
    "AlreadyRegistered",
    "AlreadySettled",
    "AlreadyStarted",
    "AutoShutdown",
    "Backoff",
    "BlockingActor",
    "CallCycle",
    "ChildCounts",
    "ChildInfo",
    "ChildNotFound",
    "ChildRestarting",
    "ChildRunning",
    "ChildSpec",
    "ChildState",
    "Clock",
    "CountChildren",
    "Crashed",
    "DeadlineExceeded",
    "DeleteChild",
    "DynamicSupervisor",
    "EnsureChild",
    "Entry",
    "Event",
    "EventHook",
    "ExitReason",
    "ExitRecord",
    "Exited",
    "GaveUp",
    "GetChildSpec",
    "IdleTimeout",
    "Inspect",
    "Intensity",
    "IntensityExceeded",
    "InvalidSpec",
    "LastCrash",
    "Later",
    "MailboxFull",
    "MaxChildren",
    "Monitor",
    "NameNotFound",
    "NamedSupervisor",
    "NotOwner",
    "OrphanAbandoned",
    "OtpError",
    "PartitionSupervisor",
    "Partitions",
    "PoolExhausted",
    "Ref",
    "Registry",
    "ReplyFuture",
    "RestartChild",
    "Restarting",
    "Runtime",
    "Shutdown",
    "Simulation",
    "SimulationStuck",
    "StartChild",
    "StartFailed",
    "StartRefused",
    "Started",
    "Stop",
    "Supervisor",
    "SupervisorRef",
    "SystemClock",
    "TerminateChild",
    "ThreadPool",
    "TreeNode",
    "UnknownMessage",
    "Unstopped",
    "WhichChild",
    "WhichChildren",
    "WouldBlock",
    "adopt",
    "default_runtime",
    "log_event",
    "start_actor",
]
