"""From labels to split groups: which classes of labels form a channel space, and where its channels stand.

A neuron is one class. Classes that some layer produces together form a space, and the order of that layer's rows is
the order of the channels. Everywhere else the channels must stand in runs of that order, or the space can't be split.
"""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

from energysplit.graph.labels import NONE, Labels, compact
from energysplit.graph.network import Count, Role, Slot
from energysplit.graph.rule import Mark
from energysplit.graph.spans import Span

_NOWHERE = -1


@dataclass
class Space:
    """A channel space. reason: why it can't be split; "" while nothing speaks against it."""

    name: str
    channels: int
    producers: list[str]
    reason: str = ""
    followers: list[str] = field(default_factory=list)
    consumers: list[str] = field(default_factory=list)


class Spaces:
    """All channel spaces of a network; answers where their channels stand.

    Args:
        labels: of the finished walks.
        names: id of each parameter and buffer -> its first qualified name.
        order: producing layers (owners of weights) in the order of the forward pass.
    """

    def __init__(self, labels: Labels, names: dict[int, str], order: dict[str, int]) -> None:
        self.names = names
        classes = labels.classes()
        self._class = classes.of
        made = [
            (names[tensor].rpartition(".")[0], self._class[at.numpy()])
            for tensor, _, at, role in labels.dimensions()
            if role is Role.PRODUCER and names[tensor].endswith(".weight")
        ]
        made.sort(key=lambda item: order.get(item[0], len(order)))
        count = int(self._class.max(initial=-1)) + 1
        heads = [(np.full(len(rows), rows[0]), rows) for _, rows in made]
        a, b = (np.concatenate([np.empty(0, int), *(pair[side] for pair in heads)]) for side in (0, 1))
        _, component = connected_components(coo_matrix((np.ones(len(a)), (a, b)), shape=(count, count)), directed=False)
        self.spaces: dict[str, Space] = {}
        self._space = np.full(count, _NOWHERE)
        self._channel = np.full(count, _NOWHERE)
        numbers: dict[int, int] = {}
        for name, rows in made:
            number = numbers.setdefault(int(component[rows[0]]), len(numbers))
            if number == len(self.spaces):
                self.spaces[name] = Space(name, 0, [])
            space = list(self.spaces.values())[number]
            space.producers.append(name)
            for one in dict.fromkeys(rows.tolist()):
                if self._space[one] == _NOWHERE:
                    self._space[one], self._channel[one] = number, space.channels
                    space.channels += 1
        for tensor, _, rows, _ in labels.dimensions():
            if tensor in labels.several:
                self._refuse_single(self._class[rows.numpy()], names[tensor])
        for one, reason in classes.reason.items():
            if self._space[one] != _NOWHERE:
                self.refuse(list(self.spaces)[self._space[one]], reason)

    def _refuse_single(self, classes: np.ndarray, filters: str) -> None:
        """Spaces of one channel with several filters: the order of its copies can't be read off its labels."""
        for number in set(self._space[classes].tolist()) - {_NOWHERE}:
            name = list(self.spaces)[number]
            if self.spaces[name].channels == 1:
                self.refuse(name, f"its one channel has several filters in {filters!r}, whose order is not known")

    def refuse(self, name: str, reason: str) -> None:
        """The space can't be split; the first reason counts."""
        self.spaces[name].reason = self.spaces[name].reason or reason

    def slots(self, labels: Labels) -> tuple[Slot, ...]:
        """Every dimension of every parameter and buffer that runs along a space's channels."""
        found = []
        for tensor, dim, at, role in labels.dimensions():
            if tensor in self.names:
                name = self.names[tensor]
                found += [Slot(name, role, span) for span in self.spans_of(at, dim, name)]
        return tuple(found)

    @property
    def widths(self) -> dict[str, int]:
        """Channels of each space."""
        return {name: space.channels for name, space in self.spaces.items()}

    def count(self, total: int, at: Tensor | None) -> Count:
        """How a number of channels, those labelled `at` among them, follows the spaces' widths, in whatever order.

        For prices: nothing is refused. Of a space, channels that stand there more often than others count as fixed.
        """
        raw = np.empty(0, int) if at is None else at.flatten().numpy()
        classes = self._class[raw[raw != NONE]]
        terms = []
        for number in np.unique(self._space[classes]).tolist():
            if number != _NOWHERE:
                name = list(self.spaces)[number]
                here = self._channel[classes[self._space[classes] == number]]
                times = np.bincount(here, minlength=self.spaces[name].channels)
                if (times == times[0]).all():
                    terms.append((name, int(times[0])))
        return Count(total - Count(0, tuple(terms)).at(self.widths), tuple(terms))

    def spans_of(self, at: Tensor, dim: int, where: str) -> tuple[Span, ...]:
        """The spans of labels along one dimension; spaces whose channels stand in no order are refused."""
        raw = at.numpy()
        kind = np.where(raw == NONE, _NOWHERE, self._class[raw]) if len(self._class) else raw
        space = np.where(kind == _NOWHERE, _NOWHERE, self._space[kind])
        found: dict[int, tuple[list[int], int]] = {}
        edges = np.flatnonzero(np.diff(space)) + 1
        for start, stop in zip([0, *edges], [*edges, len(space)], strict=True):
            number = int(space[start])
            if number == _NOWHERE:
                continue
            name = list(self.spaces)[number]
            runs = _runs(self._channel[kind[start:stop]], raw[start:stop], self.spaces[name].channels)
            starts, block = found.get(number, ([], 0))
            if runs is None or (starts and runs[1] != block):
                self.refuse(name, f"its channels stand in another order in {where!r}")
                continue
            found[number] = ([*starts, *(int(start) + s for s in runs[0])], runs[1])
        names = list(self.spaces)
        return tuple(Span(names[number], dim, tuple(starts), block) for number, (starts, block) in found.items())

    def spans(self, mark: Mark, where: str) -> tuple[Span, ...]:
        """The spans in a tensor; spaces whose channels stand along several dimensions are refused."""
        raw = compact(mark)
        small = raw
        for dim in range(raw.dim()):  # along which every index belongs to the same neuron
            first = small.narrow(dim, 0, 1)
            if bool((self._classes_of(small) == self._classes_of(first)).all()):
                small = first
        dims = [dim for dim, size in enumerate(small.shape) if size > 1]
        dims = dims or [dim for dim, size in enumerate(raw.shape) if size > 1]
        if len(dims) == 1:
            (dim,) = dims
            at = small if small.shape[dim] > 1 else raw
            return self.spans_of(at.flatten(), dim, where)
        if dims:
            for name in self._touched(small):
                self.refuse(name, f"its channels stand along several dimensions at {where!r}")
            return ()
        single = [dim for dim in range(1, mark.dim()) if mark.shape[dim] == 1]
        if not single:
            for name in self._touched(small):
                self.refuse(name, f"its single channel can't be told from positions at {where!r}")
            return ()
        last = mark.dim() - 1
        dim = last if mark.dim() == 3 and last in single and 1 not in single else single[0]
        return self.spans_of(small.flatten(), dim, where)

    def _classes_of(self, mark: Mark) -> Tensor:
        """The classes of a mark's labels; -1 for none."""
        return torch.where(mark == NONE, NONE, torch.from_numpy(self._class)[mark.clamp_min(0)])

    def _touched(self, mark: Mark) -> list[str]:
        raw = mark.flatten().numpy()
        numbers = {int(self._space[self._class[one]]) for one in np.unique(raw[raw != NONE])}
        return [list(self.spaces)[number] for number in numbers if number != _NOWHERE]


def _runs(channel: np.ndarray, raw: np.ndarray, channels: int) -> tuple[list[int], int] | None:
    """(Starts, block) of consecutive indices that hold all channels in order once or more, or None."""
    if channels == 1:  # the labels themselves tell a block of one channel from several runs
        block = int(np.argmax(raw != raw[0])) if (raw != raw[0]).any() else len(raw)
    else:
        block = int(np.argmax(channel != channel[0])) if (channel != channel[0]).any() else len(channel)
    period = channels * block
    if len(channel) % period:
        return None
    expected = np.tile(np.repeat(np.arange(channels), block), len(channel) // period)
    if not np.array_equal(expected, channel):
        return None
    return list(range(0, len(channel), period)), block


def reading(slots: tuple[Slot, ...]) -> dict[str, list[str]]:
    """Space -> the layers that consume it."""
    found: dict[str, dict[str, None]] = defaultdict(dict)
    for slot in slots:
        if slot.role is Role.CONSUMER:
            found[slot.group][slot.tensor.rpartition(".")[0]] = None
    return {name: list(layers) for name, layers in found.items()}
