"""Actors and supervision as Erlang/OTP does them, on Pykka.

Knows nothing of webhooks: use it for actors of your own.
"""

from pollin_actors.otp.actor import Actor, BlockingActor, Ref
from pollin_actors.otp.child_spec import ChildSpec
from pollin_actors.otp.children import (
    ChildCounts,
    ChildInfo,
    ChildState,
    CountChildren,
    StartChild,
    TerminateChild,
    WhichChildren,
)
from pollin_actors.otp.clock import Clock, SystemClock
from pollin_actors.otp.dynamic_supervisor import DynamicSupervisor, EnsureChild
from pollin_actors.otp.errors import (
    ActorCrashed,
    ActorDead,
    AlreadyRegistered,
    AlreadySettled,
    AlreadyStarted,
    CallCycle,
    ChildNotFound,
    DeadlineExceeded,
    IntensityExceeded,
    InvalidSpec,
    MailboxFull,
    NameNotFound,
    OtpError,
    PoolExhausted,
    SimulationStuck,
    StartFailed,
    WouldBlock,
)
from pollin_actors.otp.exits import ExitReason, ExitRecord
from pollin_actors.otp.futures import ReplyFuture
from pollin_actors.otp.intensity import Backoff, Intensity
from pollin_actors.otp.later import Later
from pollin_actors.otp.pool import ThreadPool
from pollin_actors.otp.registry import Registry
from pollin_actors.otp.runtime import Runtime, default_runtime
from pollin_actors.otp.simulation import Simulation
from pollin_actors.otp.supervisor import Supervisor

__all__ = [
    "Actor",
    "ActorCrashed",
    "ActorDead",
    "AlreadyRegistered",
    "AlreadySettled",
    "AlreadyStarted",
    "Backoff",
    "BlockingActor",
    "CallCycle",
    "ChildCounts",
    "ChildInfo",
    "ChildNotFound",
    "ChildSpec",
    "ChildState",
    "Clock",
    "CountChildren",
    "DeadlineExceeded",
    "DynamicSupervisor",
    "EnsureChild",
    "ExitReason",
    "ExitRecord",
    "Intensity",
    "IntensityExceeded",
    "InvalidSpec",
    "Later",
    "MailboxFull",
    "NameNotFound",
    "OtpError",
    "PoolExhausted",
    "Ref",
    "Registry",
    "ReplyFuture",
    "Runtime",
    "Simulation",
    "SimulationStuck",
    "StartChild",
    "StartFailed",
    "Supervisor",
    "SystemClock",
    "TerminateChild",
    "ThreadPool",
    "WhichChildren",
    "WouldBlock",
    "default_runtime",
]
