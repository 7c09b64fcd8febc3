"""The actors of the inbox: the registry of endpoints, and one actor per endpoint."""

from pollin_actors.actors.callback_actor import CallbackActor, Identify
from pollin_actors.actors.endpoint_actor import EndpointActor, Locate

__all__ = ["CallbackActor", "EndpointActor", "Identify", "Locate"]
