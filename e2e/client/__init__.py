"""An application's view of a cache cluster."""

from e2e.client.client import Client, start, start_visitor

__all__ = ["Client", "start", "start_visitor"]
