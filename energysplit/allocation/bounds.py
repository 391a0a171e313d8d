"""How far each group may grow, by the bounds on names and name patterns that a user sets."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from fnmatch import fnmatchcase

from energysplit.errors import InputError, nearest
from energysplit.types import GroupBound, SplitGroup


def tightest(bounds: Mapping[str, GroupBound], groups: Iterable[str]) -> dict[str, GroupBound]:
    """Group -> the tightest bound whose name or pattern matches it; groups without one are left out.

    Args:
        bounds: group name, or pattern with `*`, `?` and `[...]` as for file names, -> its bound.
        groups: names, in whose order the result is.

    Raises:
        InputError: a pattern matches no group, or a bound can't be read.
    """
    names, found = list(groups), dict[str, GroupBound]()
    for pattern, bound in bounds.items():
        matched = matching(pattern, names)
        _check(pattern, bound)
        for name in matched:
            found[name] = min(bound, found.get(name, bound), key=lambda one: 0 if one.frozen else one.max_channels or 0)
    return {name: found[name] for name in names if name in found}


def ceilings(bounds: Mapping[str, GroupBound], groups: Mapping[str, SplitGroup]) -> dict[str, int]:
    """Group -> the most channels it may have; see `tightest`.

    A frozen group, and one that is wider than its bound already, stays as it is.
    """
    return {
        name: max(groups[name].channels, bound.max_channels or 0) for name, bound in tightest(bounds, groups).items()
    }


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
