"""Experiments: sets of runs from one file, run side by side, resumed, and reported on one page."""
