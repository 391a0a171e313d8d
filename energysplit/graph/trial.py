"""A trial growth on a copy: what the analysis believes is proved before anybody relies on it.

All splittable groups are split at once on a copy with random statistics, in float64, and every operation of the split
copy is compared with its original, channel by channel. What fails is narrowed down to the groups that cause it; they
can't be split, and the reason names the operation. This catches sizes written into the code and anything a rule got
wrong. Each group is split by another number of neurons, so that code in which two widths cancel does not pass.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from functools import partial
from typing import Any

import torch
from torch import Tensor, fx, nn

from energysplit.errors import UnsupportedModel
from energysplit.graph.channels import ChannelMap, channel_map
from energysplit.graph.copied import copied
from energysplit.graph.edit import duplicate
from energysplit.graph.network import Kind, Network, Op

IMAGES = 2
_TOLERANCE = {torch.float64: 1e-8, torch.float32: 1e-3}


def trial(net: Network, trained: bool) -> dict[str, str]:
    """Group -> why it can't be split after all; the network itself is left alone.

    Args:
        net: the analysis to be proved.
        trained: whether training runs other operations, which are then run too.

    Raises:
        UnsupportedModel: the operations found do not compute what the module computes.
    """
    names = [name for name, group in net.groups.items() if group.splittable]
    bench = _Bench(net, trained)
    bad: dict[str, str] = {}
    for copies in rounds({name: net.groups[name].channels for name in names}):
        while (why := bench.failure(left := {name: n for name, n in copies.items() if name not in bad})) is not None:
            culprits = bench.narrowed(left)
            bad |= culprits or dict.fromkeys(left, f"split together with others, it breaks {why}")
    return bad


def rounds(channels: Mapping[str, int]) -> list[dict[str, int]]:
    """How many neurons of each group to split at once, in as many rounds as it takes to tell all groups apart.

    Any two groups are split by different numbers of neurons in one of the rounds, and grow by different ratios in one,
    so that neither `a - b` nor `a / b` of two widths stays what it was in all of them. A round leaves out the groups
    that it splits by none.
    """
    found: list[dict[str, int]] = []
    past: dict[str, tuple[int, ...]] = dict.fromkeys(channels, ())
    while channels and (not found or _alike(past, channels)):
        used: Counter[tuple[Any, ...]] = Counter()
        for name, width in sorted(channels.items(), key=lambda item: item[1]):  # wide groups have the most choice
            options = [*range(2, width + 1), 1, *([0] if found or width == 1 else [])]
            tried = [(*past[name], count) for count in options]
            times = partial(_times, used, width)
            past[name] = next((counts for counts in tried if not times(counts)), ()) or min(tried, key=times)
            used.update(_marks(past[name], width))
        found.append({name: counts[-1] for name, counts in past.items() if counts[-1]})
    return found


def _marks(counts: tuple[int, ...], width: int) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
    """What tells a group that was split by these numbers of neurons from others: the numbers, and the ratios."""
    return ("numbers", *counts), ("ratios", *(Fraction(count, width) for count in counts))


def _times(used: Counter[tuple[Any, ...]], width: int, counts: tuple[int, ...]) -> int:
    """How often other groups have these numbers, and these ratios."""
    return sum(used[mark] for mark in _marks(counts, width))


def _alike(past: Mapping[str, tuple[int, ...]], channels: Mapping[str, int]) -> bool:
    """Whether two groups have the same numbers, or the same ratios, in all rounds."""
    marks = Counter(mark for name, counts in past.items() for mark in _marks(counts, channels[name]))
    return any(times > 1 for times in marks.values())


@dataclass
class _Bench:
    """The randomised copy, its input, and what each of its operations computes."""

    net: Network
    trained: bool

    def __post_init__(self) -> None:
        example = self.net.example_input[:IMAGES]
        try:
            self._prepare(example, torch.float64)
        except Exception:  # a type or a batch size written into the code
            self._prepare(self.net.example_input, next(self.net.module.parameters()).dtype)
        replayed = fx.map_arg(self.net.output, lambda node: self.values[node])  # type: ignore[misc]
        if not self._same_output(replayed):
            raise UnsupportedModel(
                f"{type(self.net.module).__name__}: the operations found by tracing do not compute what the module "
                "computes; does its forward depend on something outside its layers, or change a tensor in place "
                "that is used again?"
            )

    def _prepare(self, example: Tensor, dtype: torch.dtype) -> None:
        module = randomised(copied(self.net.module).to(dtype)).eval()
        generator = torch.Generator().manual_seed(0)
        self.tolerance = _TOLERANCE.get(dtype, 1e-2)
        self.input = example
        if example.is_floating_point():
            self.input = torch.randn(example.shape, generator=generator).to(example.device, dtype)
        self.before = self.net.rewidened(module, {})
        self.spans = {op.node: op.spans for op in self.net.ops}
        self.values = {op.node: value for op, value in _run(self.before, self.input)}
        self.output = self.before.module(self.input.clone())
        self.trained_output: Any = None
        drops = any("drop" in type(sub).__name__.lower() for sub in module.modules())
        drops = drops or any(word in str(op.node.target) for op in self.net.ops for word in ("drop", "stochastic"))
        if self.trained and not drops:  # what is dropped at random can't be compared
            with torch.random.fork_rng():
                self.trained_output = self._training_output(copied(module))

    def _batch(self) -> Tensor:
        """More than one image, as batch norm wants them in training mode."""
        return torch.cat([self.input, self.input]) if len(self.input) == 1 else self.input.clone()

    def failure(self, copies: Mapping[str, int]) -> str | None:
        """The first operation that splitting this many neurons of each group breaks, or None."""
        if not copies:
            return None
        maps = {name: _pattern(name, self.net.groups[name].channels, count) for name, count in copies.items()}
        where = "the surgery itself"
        try:
            after = duplicate(self.before, maps)
            pending = {op.node: op.name for op in after.ops}
            for op, value in _run(after, self.input):
                where = repr(pending.pop(op.node))
                if op.kind is not Kind.VALUE and not self._kept(op, value, maps):
                    return where
                where = repr(next(iter(pending.values()), "the output"))
            where = "the module's own forward, which reads a width"
            if not self._same_output(after.module(self.input.clone())):
                return where
            if self.trained:
                where = "the forward pass in training mode"
                with torch.random.fork_rng():
                    output = self._training_output(after.module)
                if self.trained_output is not None and not self._same_output(output, self.trained_output):
                    return where
        except Exception as error:
            return f"{where} ({str(error).splitlines()[0] if str(error) else type(error).__name__})"
        return None

    def narrowed(self, copies: Mapping[str, int]) -> dict[str, str]:
        """The groups that fail by themselves, each with what it breaks."""
        why = self.failure(copies)
        if why is None:
            return {}
        if len(copies) == 1:
            return dict.fromkeys(copies, f"split, it breaks {why}")
        items = list(copies.items())
        half = len(items) // 2
        return self.narrowed(dict(items[:half])) | self.narrowed(dict(items[half:]))

    def _kept(self, op: Op, value: Any, maps: dict[str, ChannelMap]) -> bool:
        """Whether an operation's result is the original's, with the channels of split groups copied."""
        old = self.values[op.node]
        if not isinstance(value, Tensor):
            return True
        runs = [(start, span) for span in self.spans[op.node] if span.group in maps for start in span.starts]
        if runs:  # all along one dimension
            dim, at, pieces = runs[0][1].dim, 0, []
            for start, span in sorted(runs, key=lambda run: run[0]):
                pieces += [torch.arange(at, start), start + maps[span.group].indices(span.block)]
                at = start + self.net.groups[span.group].channels * span.block
            source = torch.cat([*pieces, torch.arange(at, old.shape[dim])])
            old = old.index_select(dim, source.to(old.device))
        return self._equal(old, value)

    def _training_output(self, module: nn.Module) -> Any:
        """What a module computes in training mode."""
        torch.manual_seed(0)
        return module.train()(self._batch())

    def _same_output(self, output: Any, before: Any = None) -> bool:
        """Whether this is what the module computed before."""
        old, new = _tensors(self.output if before is None else before), _tensors(output)
        return len(old) == len(new) and all(map(self._equal, old, new))

    def _equal(self, old: Any, new: Any) -> bool:
        if not isinstance(old, Tensor) or not isinstance(new, Tensor) or old.shape != new.shape:
            return False
        if not (old.is_floating_point() or old.is_complex()):
            return bool(torch.equal(old, new))
        scale = old.abs().nan_to_num(0, 0, 0).max() if old.numel() else old.new_zeros(())
        close = torch.isclose(old, new, rtol=self.tolerance, atol=float(scale) * self.tolerance, equal_nan=True)
        return bool(close.all())


def _run(net: Network, x: Tensor) -> Any:
    """Every operation with its result, in order."""
    env: dict[fx.Node, Any] = {}
    for op in net.ops:
        if op.node.op == "placeholder":
            env[op.node] = op.function() if op.function is not None else x.clone()
        else:
            env[op.node] = op.run(net.module, env)
        yield op, env[op.node]


def _pattern(name: str, channels: int, count: int) -> ChannelMap:
    """The first neuron and others far apart: copies in a wrong order show."""
    return channel_map(name, channels, [number * channels // count for number in range(count)])


def _tensors(tree: Any) -> list[Tensor]:
    return [leaf for leaf in torch.utils._pytree.tree_leaves(tree) if isinstance(leaf, Tensor)]


def randomised(module: nn.Module) -> nn.Module:
    """The module with batch-norm state, biases and constant tensors made random, so that no two channels are alike."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, tensor in (*module.named_parameters(), *module.named_buffers()):
            if not tensor.is_floating_point() or tensor.numel() == 0:
                continue
            if tensor.dim() > 1 and tensor.numel() > tensor.shape[0] and bool((tensor != tensor.flatten()[0]).any()):
                continue
            noise = torch.rand(tensor.shape, generator=generator).to(tensor.device, tensor.dtype)
            tensor.mul_(0.8 + 0.4 * noise).add_(0.1 * noise)
            if name.endswith("running_var"):
                tensor.abs_().add_(0.1)
    return module
