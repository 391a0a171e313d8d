"""Methods that growth is compared with, under the same loop, data, schedule and report.

What a baseline changes is only what lies between two trainings: where a growth splits neurons, it takes a network of
other widths with fresh weights, or removes neurons from the one it has.
"""

from energysplit.growth.baselines.chain import Baseline, load_baseline
from energysplit.growth.baselines.replace import decide, made

__all__ = ["Baseline", "decide", "load_baseline", "made"]
