"""Splitting indices of all neurons at once: operator, eigen-solvers, sampling."""

from energysplit.splitting.estimate import splitting_index

__all__ = ["splitting_index"]
