"""The ways to split a neuron: how many copies, with what share of its outgoing weights, and how far each moves.

Copy i of a neuron theta has rows theta + e (a_i v_low + b_i v_high), where v_low and v_high belong to the smallest and
the largest eigenvalue of its splitting matrix and e is the step, and gets w_i times its outgoing weights. The function
is kept at e = 0 (sum of w_i = 1), the first order vanishes (sums of w_i a_i and of w_i b_i = 0), and the loss changes
by e^2/2 (A lambda_low + B lambda_high) with A, B the sums of w_i a_i^2 and w_i b_i^2.

With positive shares only A = 1 and B = 0 (S2D, Liu et al. 2019, arXiv 1910.02366). With signed shares of total size
c = "mass", P = (c + 1) / 2 of them positive and N = (c - 1) / 2 negative, both ends of the spectrum pay (S3D, Wu et al.
2020, arXiv 2003.10392).

A fresh neuron is a copy too: the old neuron keeps all of its outgoing weights, and the copy, whose rows move, begins
with none. So the function is kept at every step, and A = B = 0: what it brings is of first order in the outgoing
weights that training gives it (`energysplit.splitting.fresh`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from types import MappingProxyType

from energysplit.errors import InputError

PAIR = "pair"
FRESH = "fresh"

MOST_MASS = 1000.0
"""Copies of a larger mass cancel to rounding in float32."""


@dataclass(frozen=True)
class Copy:
    """One copy of a split neuron: its share of the outgoing weights, and its moves in steps along v_low and v_high."""

    share: float
    low: float = 0.0
    high: float = 0.0


@dataclass(frozen=True)
class Kind:
    """A way to split a neuron, by its copies."""

    name: str
    copies: tuple[Copy, ...]

    @property
    def added(self) -> int:
        """Channels it adds."""
        return len(self.copies) - 1

    @property
    def low(self) -> float:
        """Factor of the smallest eigenvalue in the loss change, at least 0."""
        return math.fsum(copy.share * copy.low**2 for copy in self.copies)

    @property
    def high(self) -> float:
        """Factor of the largest eigenvalue in the loss change, at most 0."""
        return math.fsum(copy.share * copy.high**2 for copy in self.copies)


def kinds(mass: float = 1.0) -> Mapping[str, Kind]:
    """The kinds of split there are for a mass, by name; for mass 1 the plain pair only.

    Example:
        >>> {name: (kind.added, kind.low, kind.high) for name, kind in kinds(3.0).items()}
        {'pair': (1, 1.0, 0.0), 'signed_pair': (1, 0.0, -0.5), 'low_triple': (2, 2.0, 0.0), \
'high_triple': (2, 0.0, -1.0), 'quadruple': (3, 2.0, -1.0)}

    Raises:
        InputError: the mass is no number from 1 to `MOST_MASS`.
    """
    if isinstance(mass, bool) or not isinstance(mass, int | float) or not 1 <= mass <= MOST_MASS:
        raise InputError(
            f"mass = {mass!r} given, a finite number of at least 1 expected, {MOST_MASS:g} at most: the sizes of a "
            "neuron's shares together; 1 for positive shares only"
        )
    return _kinds(float(mass))


def every_kind(mass: float = 1.0) -> Mapping[str, Kind]:
    """The kinds of split there are for a mass, and the fresh neuron, which is chosen by an index of its own.

    Raises:
        InputError: see `kinds`.
    """
    return MappingProxyType({**kinds(mass), FRESH: Kind(FRESH, (Copy(1.0), Copy(0.0, low=1.0)))})


@lru_cache(maxsize=16)
def _kinds(mass: float) -> Mapping[str, Kind]:
    found = [Kind(PAIR, (Copy(0.5, low=1.0), Copy(0.5, low=-1.0)))]
    if mass > 1:
        p, n = (mass + 1) / 2, (mass - 1) / 2
        lows = (Copy(p / 2, low=1.0), Copy(p / 2, low=-1.0))
        highs = (Copy(-n / 2, high=1.0), Copy(-n / 2, high=-1.0))
        found += [
            Kind("signed_pair", (Copy(p, high=n / p), Copy(-n, high=1.0))),
            Kind("low_triple", (*lows, Copy(-n))),
            Kind("high_triple", (Copy(p), *highs)),
            Kind("quadruple", (*lows, *highs)),
        ]
    return MappingProxyType({kind.name: kind for kind in found})
