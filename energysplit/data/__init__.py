"""Images by name, in three parts that never mix: training, validation, test; everything random comes from a seed.

The test part is the official one and is never used to choose anything. Validation images are taken from the training
images, the same share of each class.
"""

from __future__ import annotations

from energysplit.data.load import image_shape, load, names
from energysplit.data.split import Split, Splits

__all__ = ["Split", "Splits", "image_shape", "load", "names"]
