"""How far each group may grow, by the bounds on names and name patterns that a user sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from energysplit.errors import InputError, nearest
from energysplit.types import GroupBound, SplitGroup


def ceilings(bounds: Mapping[str, GroupBound], groups: Mapping[str, SplitGroup]) -> dict[str, int]:
    """Group -> the most channels it may have; of several patterns that match a group the tightest counts.

    A frozen group, and one that is wider than its bound already, stays as it is.

    Args:
        bounds: group name, or pattern with `*`, `?` and `[...]` as for file names, -> its bound.
        groups: of the network.

    Raises:
        InputError: a pattern matches no group, or a bound can't be read.
    """
    found: dict[str, int] = {}
    for pattern, bound in bounds.items():
        names = matching(pattern, groups)
        _check(pattern, bound)
        for name in names:
            width = groups[name].channels
            most = width if bound.frozen or bound.max_channels is None else max(width, bound.max_channels)
            found[name] = min(most, found.get(name, most))
    return found


def matching(pattern: str, names: Iterable[str]) -> list[str]:
    """The names that a pattern matches; a name matches itself, whatever characters it has.

    Raises:
        InputError: none does.
    """
    listed = list(names)
    found = [name for name in listed if name == pattern or fnmatchcase(name, pattern)]
    if not found:
        raise InputError(f"bounds: no group of this network matches {pattern!r}; {nearest(pattern, listed)}")
    return found


def _check(pattern: str, bound: GroupBound) -> None:
    if not isinstance(bound, GroupBound):
        raise InputError(
            f"bounds: {pattern!r} is {bound!r}; expected a GroupBound, such as GroupBound(max_channels=64)"
        )
    most = bound.max_channels
    if most is not None and (isinstance(most, bool) or not isinstance(most, int) or most < 1):
        raise InputError(f"bounds: max_channels of {pattern!r} is {most!r}; expected a whole number of at least 1")
    if (most is None) != bound.frozen:
        raise InputError(f"bounds: {pattern!r} needs one of max_channels and frozen=True, {bound} given")
