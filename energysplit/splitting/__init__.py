"""Splitting indices of all neurons at once: tangent passes, operator, eigen-solvers, sampling."""

from energysplit.splitting.estimate import splitting_index
from energysplit.splitting.operator import SplittingOperator
from energysplit.splitting.shrinkage import shrunk

__all__ = ["SplittingOperator", "shrunk", "splitting_index"]
