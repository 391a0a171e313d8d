"""Prices: providers that price a layer case, and the price of a whole network made of them."""

from __future__ import annotations

# Importing the classes registers them.
from energysplit.costs.macs import Macs
from energysplit.costs.network_price import NetworkPricer, amount, marginal_price, price
from energysplit.costs.params import Params
from energysplit.costs.registry import cost_provider, names, provider_name, register_cost

__all__ = [
    "Macs",
    "NetworkPricer",
    "Params",
    "amount",
    "cost_provider",
    "marginal_price",
    "names",
    "price",
    "provider_name",
    "register_cost",
]
