"""Tells whether two runs have the same sizes, from plain numbers, so that listing runs needs no torch."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping

REFERENCE_FILE = "reference.json"
"""Where a run notes the digest of the sizes it takes from another."""


def sizes_digest(stages: Iterable[tuple[Mapping[str, int], Mapping[str, float]]]) -> str:
    """SHA-256 of each stage's widths by group and prices by provider, stages in order."""
    sizes = [{"widths": dict(widths), "prices": dict(prices)} for widths, prices in stages]
    return hashlib.sha256(json.dumps(sizes, sort_keys=True).encode()).hexdigest()
