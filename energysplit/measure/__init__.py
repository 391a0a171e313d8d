"""Measuring a device: plans, the script that runs there, its samples, their statistics, and energy meters.

What runs on a device is one file, `device_run`, which knows nothing of this package; everything else here prepares its
plan or reads its results.
"""
