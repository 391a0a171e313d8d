"""Vectors of a group: one row a neuron, with all that moves when it is split.

A neuron's row holds its rows in every mover, flattened and concatenated, and behind them, where outgoing weights move
too, its columns in every consumer. Solvers see these matrices only; the tangent pass sees tensors shaped like weights.

Outgoing moves u are stored as u / k with k = (rms norm of the group's columns) / (rms norm of its rows), so that a unit
vector disturbs rows and columns alike, each relative to its own size (docs/outgoing.md). Where one of the norms is 0,
k = 1.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from energysplit.graph import Network
from energysplit.graph.network import Role, Slot
from energysplit.types import SplitIndex

Vectors = dict[str, Tensor]
"""Group -> matrix of shape (neurons, dims)."""


@dataclass(frozen=True)
class Moves:
    """Moves of weights, by layer, each shaped like the weight; rows: of producers, columns: of consumers."""

    rows: dict[str, Tensor]
    columns: dict[str, Tensor]


@dataclass(frozen=True)
class Part:
    """One weight's part of a group's vectors.

    layer: owner of the weight. dim: 0 for rows, 1 for columns. index: the neuron's indices along it. size: number of
    all indices. rest: shape of what one index holds. at: its first and past-the-last column in the vectors. whole:
    whether the neurons' indices are all there are, in order. scale: move of the weight in units of the vectors.
    """

    layer: str
    dim: int
    index: Int[Tensor, "neurons multiple"]
    size: int
    rest: torch.Size
    at: tuple[int, int]
    whole: bool
    scale: float = 1.0

    def put(self, vectors: Float[Tensor, "neurons dims"]) -> Float[Tensor, "indices ..."]:
        """The vectors' entries for this weight, one entry for each index."""
        entries = vectors[:, slice(*self.at)].reshape(-1, *self.rest)
        return entries if self.scale == 1 else entries * self.scale

    def take(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "neurons dims"]:
        """This part of the vectors from a tensor shaped like the weight."""
        return self._chosen(weight.to(self.index.device)) / self.scale

    def add(self, gradient: Float[Tensor, "*shape"], to: Float[Tensor, "neurons dims"], factor: float) -> None:
        """Add a factor times the gradient to the vectors, from one to the weight: the transpose of `put`."""
        to[:, slice(*self.at)].add_(self._chosen(gradient), alpha=factor * self.scale)

    def _chosen(self, weight: Float[Tensor, "*shape"]) -> Float[Tensor, "neurons dims"]:
        entries = weight.movedim(self.dim, 0)
        entries = entries if self.whole else entries.index_select(0, self.index.flatten())
        return entries.reshape(len(self.index), -1)


class Layout:
    """How vectors and weights of some groups of a network correspond.

    Args:
        net: the network.
        groups: the groups that have vectors.
        outgoing: whether consumers' columns are part of them.
    """

    def __init__(self, net: Network, groups: Iterable[str], outgoing: bool) -> None:
        self.parts: dict[str, tuple[Part, ...]] = {}
        self.shapes: dict[str, torch.Size] = {}
        slots = {(slot.tensor, slot.role, slot.group): slot for slot in net.slots}
        for name in groups:
            group = net.groups[name]
            parts: list[Part] = []
            layers = [(layer, Role.PRODUCER) for layer in group.movers]
            layers += [(layer, Role.CONSUMER) for layer in group.consumers if outgoing]
            for layer, role in layers:
                slot = slots.get((weight_name(layer), role, name))
                if slot is not None:  # a consumer may hold its weight under another name: its columns stay
                    parts.append(_part(net, layer, slot, parts[-1].at[1] if parts else 0))
            self.parts[name] = _scaled(net, parts)
            self.shapes[name] = torch.Size((group.channels, parts[-1].at[1]))

    def moves(self, vectors: Mapping[str, Tensor]) -> Moves:
        """The moves of weights that vectors of some groups stand for."""
        found: tuple[dict[str, list[tuple[Part, Tensor]]], ...] = ({}, {})
        for name, matrix in vectors.items():
            for part in self.parts[name]:
                found[part.dim].setdefault(part.layer, []).append((part, part.put(matrix)))
        rows, columns = ({layer: _joined(pieces) for layer, pieces in each.items()} for each in found)
        return Moves(rows, columns)

    def add(
        self, to: Vectors, groups: Iterable[str], factor: float, dim: int, layer: str, gradient: Float[Tensor, "*shape"]
    ) -> None:
        """Add to vectors of some groups a factor times the gradient to a layer's move: the transpose of `moves`.

        dim: 0 for a move of rows, 1 of columns. Vectors that are not there yet begin as 0.
        """
        for name in groups:
            for part in self.parts[name]:
                if (part.dim, part.layer) == (dim, layer):
                    if name not in to:
                        to[name] = gradient.new_zeros(self.shapes[name])
                    part.add(gradient, to[name], factor)

    def vectors(self, index: Mapping[str, SplitIndex]) -> Vectors:
        """The vectors that the directions of indices stand for; without outgoing directions, columns stay."""
        found = {}
        for name, each in index.items():
            parts = self.parts[name]
            first = parts[0].take(each.direction[parts[0].layer])
            found[name] = first.new_zeros(self.shapes[name])
            for part in parts:
                given = each.direction if part.dim == 0 else each.outgoing
                if part.dim == 0 or part.layer in given:
                    found[name][:, slice(*part.at)] = part.take(given[part.layer])
        return found

    def directions(self, vectors: Mapping[str, Tensor]) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Group -> (mover -> move of its weight, consumer -> move of its weight, zero outside the group's columns)."""
        found = {}
        for name, matrix in vectors.items():
            moves = self.moves({name: matrix.detach()})
            found[name] = (_own(moves.rows), _own(moves.columns))
        return found


def weight_name(layer: str) -> str:
    """Qualified name of a layer's weight."""
    return f"{layer}.weight" if layer else "weight"


def _own(moves: dict[str, Tensor]) -> dict[str, Tensor]:
    """The moves in memory of their own."""
    return {layer: move.clone(memory_format=torch.contiguous_format) for layer, move in moves.items()}


def _part(net: Network, layer: str, slot: Slot, start: int) -> Part:
    weight, dim = net.weight(layer), slot.span.dim
    index = slot.span.index(net.groups[slot.group].channels)
    size = weight.shape[dim]
    rest = torch.Size(length for other, length in enumerate(weight.shape) if other != dim)
    whole = torch.equal(index.flatten(), torch.arange(size))
    return Part(layer, dim, index.to(weight.device), size, rest, (start, start + index.shape[1] * rest.numel()), whole)


def _scaled(net: Network, parts: list[Part]) -> tuple[Part, ...]:
    """The parts, with k on those of columns."""
    square = [0.0, 0.0]
    for part in parts:
        square[part.dim] += float(part.take(net.weight(part.layer)).double().square().sum())
    k = (square[1] / square[0]) ** 0.5 if min(square) > 0 else 1.0
    return tuple(replace(part, scale=k) if part.dim == 1 else part for part in parts)


def _joined(pieces: list[tuple[Part, Tensor]]) -> Tensor:
    """A tensor shaped like a weight, from the entries of all groups that share it; zero elsewhere."""
    part, entries = pieces[0]
    if len(pieces) > 1 or not part.whole:
        order = torch.cat([piece.index.flatten() for piece, _ in pieces])
        entries = torch.cat([piece_entries for _, piece_entries in pieces])
        entries = entries.new_zeros(part.size, *part.rest).index_copy(0, order, entries)
    return entries.movedim(0, part.dim)
