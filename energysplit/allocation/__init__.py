"""Allocation: which neurons to split so that the predicted gain is largest inside every budget."""

from __future__ import annotations

from energysplit.allocation.budgets import budget_names
from energysplit.allocation.solve import BLIND, METHODS, SEEKING, allocate

__all__ = ["BLIND", "METHODS", "SEEKING", "allocate", "budget_names"]
