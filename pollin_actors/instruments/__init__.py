"""Who watches the inbox at work, and how they are told: one small interface."""

from pollin_actors.instruments.hub import NOBODY, Instrumentation
from pollin_actors.instruments.interface import Call, Instruments

__all__ = ["NOBODY", "Call", "Instrumentation", "Instruments"]
