"""The splitting operator of a fixed sample: v -> S v for every neuron of every group in one sweep, matrix-free.

S is never formed. A sweep runs the tangent pass on each batch and its transpose (by autograd through the quadratic
form), both linear passes; captured batches are kept on the device while memory allows, so that a further sweep costs
little more than two convolutions a layer. With `linear = "outgoing"` S is the joint matrix of rows and columns.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.trace import evaluating
from energysplit.splitting.attribution import attributed
from energysplit.splitting.capture import Capture, Loss, capture, count_images
from energysplit.splitting.layout import Layout, Moves, Vectors
from energysplit.splitting.pieces import Piece, Tangents
from energysplit.splitting.plan import Segment, Step, segments
from energysplit.splitting.share import Share
from energysplit.splitting.statistics import check_statistics
from energysplit.types import SplitIndex

Batches = Sequence[tuple[Tensor, Tensor]]

CPU_CACHE_BYTES = 3 * 2**30


class SplittingOperator:
    """S of all neurons on a sample of batches.

    Args:
        net: the network; its weights must stay as they are while the operator is used.
        batches: (input, target) pairs; moved to the model's device when used.
        loss_fn: (output, target) -> mean loss.
        curvature: see `plan.segments`.
        linear: see `plan.segments`.
        kink_beta: see `curvature.derivatives`.
        statistics: of batch norms, "running" as in inference or the "batch"'s own as in training; of each process's
            part of a batch, as there.
        cache_bytes: captured batches are kept up to this many bytes; None: half of the free device memory on CUDA,
            3 GiB on CPU.
        share: of each batch, where several processes were given the same batches; what is returned is of whole batches.
    """

    def __init__(
        self,
        net: Network,
        batches: Batches,
        loss_fn: Loss,
        *,
        curvature: str = "exact",
        linear: str = "skip",
        kink_beta: float = 3.0,
        statistics: str = "running",
        cache_bytes: int | None = None,
        share: Share | None = None,
    ) -> None:
        self.net = net
        self.batches = batches
        self.images = count_images(batches)
        self.loss_fn = loss_fn
        check_statistics(statistics)
        self.segments = segments(net, curvature, linear, statistics)
        self.kink_beta, self.statistics = kink_beta, statistics
        taking_part = {name for segment in self.segments for name in segment.groups}
        self.layout = Layout(net, [name for name in net.groups if name in taking_part], linear == "outgoing")
        parameter = next(net.module.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self._cache: dict[int, Capture] = {}
        self._room = _cache_room(self.device) if cache_bytes is None else cache_bytes
        self.share = share or Share()

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Group -> shape of its vectors, (neurons, dims)."""
        return self.layout.shapes

    def captures(self, batches: int | None = None) -> Iterator[Capture]:
        """What this process's part of each of the first `batches` batches (all by default) left for tangent passes."""
        return (held for _, held in self.shares(batches) if held is not None)

    def shares(self, batches: int | None = None) -> Iterator[tuple[int, Capture | None]]:
        """Of each batch its images and the capture of this process's part, None if that has no image."""
        for number, (x, target) in enumerate(self.batches[:batches]):
            images = len(x)
            held = self._cache.get(number)
            if held is None:
                x, target = self.share.of(x, target)
                if len(x) == 0:
                    yield images, None
                    continue
                x, target = x.to(self.device, self.dtype if x.is_floating_point() else x.dtype), target.to(self.device)
                held = capture(self.net, x, target, self.loss_fn, self.segments, self.kink_beta, self.statistics)
                if held.bytes <= self._room:
                    self._room -= held.bytes
                    self._cache[number] = held
            yield images, held

    def apply(self, vectors: Vectors, batches: int | None = None) -> Vectors:
        """S v for each neuron: one sweep over the sample, or over its first `batches` batches."""
        return self.apply_all([vectors], batches)[0]

    def apply_all(self, ends: Sequence[Vectors], batches: int | None = None) -> list[Vectors]:
        """S v for several vectors of each neuron, one of each set: one sweep, in which a batch is captured once."""
        images = count_images(self.batches[:batches])
        totals = [{name: torch.zeros_like(v) for name, v in vectors.items()} for vectors in ends]
        for held in self.captures(batches):
            for total, vectors in zip(totals, ends, strict=True):
                for name, v in self.apply_batch(held, vectors).items():
                    total[name] += v * (held.images / images)
        return self._over_processes(totals)

    def apply_shared(self, images: int, held: Capture | None, ends: Sequence[Vectors]) -> list[Vectors]:
        """S v of one whole batch, as `shares` gave it, for several vectors of each neuron."""
        made = []
        for vectors in ends:
            if held is None:
                made.append({name: torch.zeros_like(v) for name, v in vectors.items()})
            else:
                made.append({n: v * (held.images / images) for n, v in self.apply_batch(held, vectors).items()})
        return self._over_processes(made)

    def _over_processes(self, ends: list[Vectors]) -> list[Vectors]:
        """The sums over processes of several sets of vectors, in one message."""
        if self.share.processes == 1:
            return ends
        found = iter(self.share.totals([v for vectors in ends for v in vectors.values()]))
        return [{name: next(found) for name in vectors} for vectors in ends]

    def apply_batch(self, held: Capture, vectors: Vectors) -> Vectors:
        """S v of one captured batch: half the gradient of v^T S v, which is separate for every neuron."""
        result = {}
        with evaluating(self.net.module), torch.enable_grad():
            for segment, pieces in zip(self.segments, held.pieces, strict=True):
                mine = {name: vectors[name].detach().requires_grad_() for name in segment.groups}
                moves = self.layout.moves(mine)
                counts = [piece.total(t, moves) for _, piece, t in _counting(segment, pieces, moves)]
                gradients = torch.autograd.grad(torch.stack(counts).sum(), list(mine.values()), allow_unused=True)
                for (name, v), gradient in zip(mine.items(), gradients, strict=True):
                    result[name] = torch.zeros_like(v) if gradient is None else gradient / 2
        return result

    def quadratic(self, held: Capture, vectors: Vectors) -> dict[str, Float[Tensor, "images neurons"]]:
        """Each image's part of v^T S v of each neuron; summed over images it is the batch's v^T S v.

        Raises:
            InputError: neurons can't be told from images, because the network was traced on one image.
        """
        widths = self.net.widths
        result = {
            name: torch.zeros(held.images, widths[name], dtype=torch.float64, device=self.device)
            for name in self.shapes
        }
        with evaluating(self.net.module), torch.no_grad():
            for segment, pieces in zip(self.segments, held.pieces, strict=True):
                moves = self.layout.moves({name: vectors[name] for name in segment.groups})
                for step, piece, t in _counting(segment, pieces, moves):
                    self._check_place(step, held.images)
                    each = piece.each(t, moves)
                    for name, part in attributed(each, step.place.spans, held.images, widths, step.groups):
                        result[name] += part.double()
        return result

    def _check_place(self, step: Step, images: int) -> None:
        """Refuse channels in dimension 0 that the trace may have mistaken for a batch of one that was squeezed away."""
        if images > 1 and len(self.net.example_input) == 1 and any(span.dim == 0 for span in step.place.spans):
            raise InputError(
                f"{step.place.name!r}: the network was traced on one image, and its channels stand in dimension 0 "
                "there, where larger batches may have their images; trace it on two or more"
            )

    def evaluate(self, vectors: Vectors) -> dict[str, tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]:
        """Group -> (v^T S v, its standard error over images) of each neuron; one forward tangent pass.

        Error: the sample is independent images; the standard error is that of a mean, NaN for a single image. With the
        batch's statistics images of a batch share these, which the standard error does not know.
        """
        return self.evaluate_all([vectors])[0]

    def evaluate_all(self, ends: Sequence[Vectors]) -> list[dict[str, tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]]:
        """`evaluate` for several vectors of each neuron, one of each set; a batch is captured once."""
        sums = [{name: torch.zeros(2, len(v), dtype=torch.float64) for name, v in vectors.items()} for vectors in ends]
        for held in self.captures():
            for moments, vectors in zip(sums, ends, strict=True):
                for name, parts in self.quadratic(held, vectors).items():
                    each = held.images * parts.cpu()
                    moments[name] += torch.stack([each.sum(0), each.square().sum(0)])
        sums = self._over_processes(sums)
        return [{name: _mean(found, self.images) for name, found in moments.items()} for moments in sums]

    def random_vectors(self, seed: int) -> Vectors:
        """Random unit vectors, one a neuron, the same for a seed on every device."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in self.shapes.items()
        }
        return {name: normalise(v).to(self.device, self.dtype) for name, v in drawn.items()}

    def vectors_of(self, index: Mapping[str, SplitIndex]) -> Vectors:
        """The vectors behind the directions of splitting indices."""
        return {name: v.to(self.device, self.dtype) for name, v in self.layout.vectors(index).items()}

    def directions(self, vectors: Vectors) -> dict[str, tuple[dict[str, Tensor], dict[str, Tensor]]]:
        """Group -> (mover -> move of its weight, consumer -> move of its weight), as `split` takes them."""
        return self.layout.directions(vectors)


def _counting(segment: Segment, pieces: Sequence[Piece], moves: Moves) -> Iterator[tuple[Step, Piece, Tangents]]:
    """The tangent pass of one segment: stops at each step that counts, with the tangents there."""
    t: Tangents = {}
    for step, piece in zip(segment.steps, pieces, strict=True):
        if step.passes:
            t[step.op.node] = piece.carry(t, moves)
        if step.counts:
            yield step, piece, t
        for node in step.frees:
            del t[node]


def _mean(moments: Float[Tensor, "2 n"], n: int) -> tuple[Float[Tensor, " n"], Float[Tensor, " n"]]:
    """Mean and its standard error from the sums of n observations and of their squares."""
    mean = moments[0] / n
    variance = (moments[1] / n - mean.square()).clamp_min(0) * n / (n - 1) if n > 1 else mean * float("nan")
    return mean, (variance / n).sqrt()


def normalise(v: Float[Tensor, "neurons dims"]) -> Float[Tensor, "neurons dims"]:
    """Each neuron's vector scaled to unit norm; a zero vector stays zero."""
    return v / v.norm(dim=1, keepdim=True).clamp_min(torch.finfo(v.dtype).tiny)


def dots(a: Float[Tensor, "neurons dims"], b: Float[Tensor, "neurons dims"]) -> Float[Tensor, " neurons"]:
    """Inner product of each neuron's vectors."""
    return (a * b).sum(1)


def _cache_room(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free // 2
    return CPU_CACHE_BYTES
