"""The inbox on the web: callables for the servers and frameworks that you have already."""

from pollin_actors.web.admin_api import admin
from pollin_actors.web.receiver import asgi

__all__ = ["admin", "asgi"]
