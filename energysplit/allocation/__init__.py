"""Allocation: which neurons to split so that the predicted gain is largest inside every budget."""

from __future__ import annotations

from energysplit.allocation.budgets import budget_names
from energysplit.allocation.solve import METHODS, SEEKING, allocate

__all__ = ["METHODS", "SEEKING", "allocate", "budget_names"]
