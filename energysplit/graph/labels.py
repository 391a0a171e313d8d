"""Labels: every index of a parameter's dimension that may hold channels has one, and operations unify or freeze them.

Two labels are unified where an operation makes the indices behind them depend on each other: neither can be split
without the other. Labels that belong together are one neuron. A frozen label can't be split, and says why.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from energysplit.graph.network import Role

NONE = -1
"""The label of an index that holds no channel: of the input image, of a batch, of a position."""


@dataclass(frozen=True)
class Classes:
    """Unified labels. of: class of each label. reason: class -> why it can't be split."""

    of: np.ndarray
    reason: dict[int, str]


@dataclass
class Labels:
    """All labels of an analysis, and what is known of them so far."""

    count: int = 0
    roles: dict[tuple[int, int], Role] = field(default_factory=dict)
    _ranges: dict[tuple[int, int], Tensor] = field(default_factory=dict)
    _edges: list[tuple[np.ndarray, np.ndarray]] = field(default_factory=list)
    _frozen: list[tuple[np.ndarray, str]] = field(default_factory=list)
    _closed: dict[int, str] = field(default_factory=dict)
    several: list[int] = field(default_factory=list)
    """Weights (ids) of which each channel has several filters."""

    def of(self, tensor: Tensor, dim: int, role: Role = Role.FOLLOWER) -> Tensor:
        """The labels of one dimension of a parameter or buffer, the same whenever it is asked for.

        A dimension that a layer produces or consumes keeps that role when it is also used otherwise.
        """
        key = (id(tensor), dim)
        if self.roles.get(key, Role.FOLLOWER) is Role.FOLLOWER:
            self.roles[key] = role
        if key not in self._ranges:
            size = tensor.shape[dim]
            self._ranges[key] = torch.arange(self.count, self.count + size)
            self.count += size
        return self._ranges[key]

    def marked(self, tensor: Tensor) -> Tensor | None:
        """The label of every element of a parameter of which one dimension is labelled; None if none or several are."""
        dims = [dim for dim in range(tensor.dim()) if (id(tensor), dim) in self._ranges]
        if len(dims) != 1:
            return None
        view = [1] * tensor.dim()
        view[dims[0]] = -1
        return self._ranges[id(tensor), dims[0]].view(view).expand(tensor.shape)

    def unify(self, a: Tensor, b: Tensor) -> None:
        """Labels of `a` and `b`, of one shape or broadcast to it, belong together; `NONE` is passed over."""
        a, b = (side.flatten() for side in torch.broadcast_tensors(a, b))
        both = (a != NONE) & (b != NONE) & (a != b)
        if bool(both.any()):
            self._edges.append((a[both].numpy(), b[both].numpy()))

    def freeze(self, labels: Tensor | None, reason: str) -> None:
        """These labels can't be split."""
        if labels is not None and labels.numel() > 0:
            kept = compact(labels).flatten()
            self._frozen.append((kept[kept != NONE].numpy(), reason))

    def dimensions(self) -> list[tuple[int, int, Tensor, Role]]:
        """(id of the tensor, dimension, its labels, their role) of every range handed out, in order."""
        return [(tensor, dim, labels, self.roles[tensor, dim]) for (tensor, dim), labels in self._ranges.items()]

    def close(self, tensor: Tensor, reason: str) -> None:
        """No dimension of this parameter or buffer can be split, now or when it is used again."""
        self._closed.setdefault(id(tensor), reason)

    def classes(self) -> Classes:
        """The classes of unified labels and why some are frozen; the first reason given counts."""
        for (tensor, _), held in self._ranges.items():
            if tensor in self._closed:
                self._frozen.append((held.numpy(), self._closed[tensor]))
        a, b = (np.concatenate([np.empty(0, int), *(edge[side] for edge in self._edges)]) for side in (0, 1))
        links = coo_matrix((np.ones(len(a), bool), (a, b)), shape=(self.count, self.count))
        _, of = connected_components(links, directed=False)
        reason: dict[int, str] = {}
        for labels, why in self._frozen:
            for number in np.unique(of[labels]):
                reason.setdefault(int(number), why)
        return Classes(of, reason)


def compact(mark: Tensor) -> Tensor:
    """The mark with every dimension along which it does not vary cut to size 1."""
    for dim in range(mark.dim()):
        if mark.shape[dim] > 1 and mark.stride(dim) == 0:
            mark = mark.narrow(dim, 0, 1)
    for dim in range(mark.dim()):
        first = mark.narrow(dim, 0, 1)
        if mark.shape[dim] > 1 and bool((mark == first).all()):
            mark = first
    return mark


def varying(mark: Tensor) -> tuple[int, ...]:
    """The dimensions along which a mark varies."""
    return tuple(dim for dim, size in enumerate(compact(mark).shape) if size > 1)


def spread(labels: Tensor, dim: int, shape: torch.Size) -> Tensor:
    """A mark of this shape with these labels along one dimension."""
    view = [1] * len(shape)
    view[dim] = -1
    return labels.reshape(view).expand(shape)


def along(mark: Tensor, dim: int) -> Tensor | None:
    """The labels along one dimension, or None if the mark varies along another."""
    small = compact(mark)
    dim %= mark.dim()
    if any(size > 1 for other, size in enumerate(small.shape) if other != dim):
        return None
    return small.flatten().expand(mark.shape[dim]) if small.shape[dim] == 1 else small.flatten()
