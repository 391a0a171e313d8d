"""Prices: providers that price a layer case, and the price of a whole network made of them."""

from __future__ import annotations

# Importing the classes registers them.
from energysplit.costs.energy import Energy
from energysplit.costs.latency import Latency
from energysplit.costs.macs import Macs
from energysplit.costs.network_price import NetworkPricer, amount, marginal_price, price
from energysplit.costs.params import Params
from energysplit.costs.peak_memory import PeakMemory
from energysplit.costs.registry import cost_provider, names, provider_name, register_cost
from energysplit.costs.roofline import Roofline
from energysplit.costs.weighted import Weighted

__all__ = [
    "Energy",
    "Latency",
    "Macs",
    "NetworkPricer",
    "Params",
    "PeakMemory",
    "Roofline",
    "Weighted",
    "amount",
    "cost_provider",
    "marginal_price",
    "names",
    "price",
    "provider_name",
    "register_cost",
]
