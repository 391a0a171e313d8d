"""The growth loop: train, index, allocate, split, again; resumable at any moment."""

from energysplit.growth.loop import grow
from energysplit.growth.plan import GrowthPlan, plan

__all__ = ["GrowthPlan", "grow", "plan"]
