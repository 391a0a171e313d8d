"""Channels of a live model: which layers write, carry and mix each channel space."""

from energysplit.graph.network import Network
from energysplit.graph.trace import trace

__all__ = ["Network", "trace"]
