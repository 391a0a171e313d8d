"""The splitting operator of a fixed sample: v -> S v for every neuron of every group in one sweep, matrix-free.

S is never formed. A sweep runs the tangent pass on each batch and its transpose (by autograd through the quadratic
form), both linear passes. With `linear = "outgoing"` S is the joint matrix of rows and columns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import TypeVar

import torch
from jaxtyping import Float
from torch import Tensor

from energysplit.errors import InputError
from energysplit.graph import Network
from energysplit.graph.trace import evaluating
from energysplit.splitting.attribution import attributed
from energysplit.splitting.capture import Loss, Pieces, capture
from energysplit.splitting.layout import Layout, Moves, Vectors
from energysplit.splitting.pieces import Piece, Tangents
from energysplit.splitting.plan import Segment, Step, segments
from energysplit.splitting.sample import Batches, Part, Sample, count_images
from energysplit.splitting.share import Share
from energysplit.splitting.statistics import check_statistics
from energysplit.types import SplitIndex

Take = Callable[[int, str, Tensor], None]
"""What is done with the gradient to a layer's move: of rows (0) or of columns (1)."""
T = TypeVar("T")


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
        precision: of the passes over a batch, "no" (the parameters' own) or "bf16"; see `precision`.
        cache_bytes: see `sample.Sample`.
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
        precision: str = "no",
        cache_bytes: int | None = None,
        share: Share | None = None,
    ) -> None:
        self.net = net
        self.batches = batches
        self.images = count_images(batches)
        check_statistics(statistics)
        self.segments = segments(net, curvature, linear, statistics)
        taking_part = {name for segment in self.segments for name in segment.groups}
        self.layout = Layout(net, [name for name in net.groups if name in taking_part], linear == "outgoing")
        self.share = share or Share()
        captured = partial(
            capture, net, loss_fn=loss_fn, segments=self.segments, kink_beta=kink_beta, statistics=statistics
        )
        self.sample = Sample(batches, net.module, captured, self.share, precision, cache_bytes)
        self.dtype, self.device = self.sample.dtype, self.sample.device

    @property
    def shapes(self) -> dict[str, torch.Size]:
        """Group -> shape of its vectors, (neurons, dims)."""
        return self.layout.shapes

    def apply(self, vectors: Vectors, batches: int | None = None) -> Vectors:
        """S v for each neuron: one sweep over the sample, or over its first `batches` batches."""
        return self.apply_all([vectors], batches)[0]

    def apply_all(self, ends: Sequence[Vectors], batches: int | None = None) -> list[Vectors]:
        """S v for several vectors of each neuron, one of each set: one sweep, in which a batch is captured once."""
        images = count_images(self.batches[:batches])

        def sweep() -> list[Vectors]:
            totals: list[Vectors] = [{} for _ in ends]
            for part in self.sample.parts(batches):
                self._add(part, ends, totals, part.images / images)
            return _complete(totals, ends)

        return self._over_processes(self.swept(sweep))

    def apply_part(self, part: Part, ends: Sequence[Vectors]) -> list[Vectors]:
        """S v of the whole batch that a part is of, for several vectors of each neuron."""

        def sweep() -> list[Vectors]:
            totals: list[Vectors] = [{} for _ in ends]
            self._add(part, ends, totals, part.images / max(part.of, 1))
            return _complete(totals, ends)

        return self._over_processes(self.swept(sweep))

    def swept(self, sweep: Callable[[], T]) -> T:
        """What a sweep over this process's parts returns, once all processes have made theirs."""
        return self.share.done(lambda: self.sample.swept(sweep))

    def _over_processes(self, ends: list[Vectors]) -> list[Vectors]:
        """The sums over processes of several sets of vectors, in one message."""
        if self.share.processes == 1:
            return ends
        found = iter(self.share.totals([v for vectors in ends for v in vectors.values()]))
        return [{name: next(found) for name in vectors} for vectors in ends]

    def _add(self, part: Part, ends: Sequence[Vectors], totals: Sequence[Vectors], weight: float) -> None:
        """Add S v of one part, times a weight: half the gradient of v^T S v, which is separate for every neuron.

        Totals are made as late as a training step's gradients are.
        """

        def use(segment: Segment, pieces: Pieces, spent: bool) -> None:
            for total, vectors in zip(totals, ends, strict=True):
                moves = self.layout.moves({name: vectors[name].detach() for name in segment.groups})
                take = partial(self.layout.add, total, segment.groups, weight)
                _send_back(segment, pieces, moves, spent and vectors is ends[-1], take)

        with evaluating(self.net.module):
            part.visit(use)

    def quadratic(self, part: Part, ends: Sequence[Vectors]) -> list[dict[str, Float[Tensor, "images neurons"]]]:
        """For each set of vectors, each image's part of v^T S v of each neuron.

        Summed over the part's images it is v^T S v of the part.

        Raises:
            InputError: neurons can't be told from images, because the network was traced on one image.
        """
        widths, images = self.net.widths, part.images
        result = [
            {n: torch.zeros(images, widths[n], dtype=torch.float64, device=self.device) for n in self.shapes}
            for _ in ends
        ]

        def use(segment: Segment, pieces: Pieces, _: bool) -> None:
            with torch.no_grad():
                for made, vectors in zip(result, ends, strict=True):
                    moves = self.layout.moves({name: vectors[name] for name in segment.groups})
                    for step, piece, t in _counting(segment, pieces, moves):
                        self._check_place(step, images)
                        each = piece.each(t, moves)
                        for name, found in attributed(each, step.place.spans, images, widths, step.groups):
                            made[name] += found.double()

        with evaluating(self.net.module):
            part.visit(use)
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

        def sweep() -> list[Vectors]:
            sums: list[Vectors] = [
                {name: torch.zeros(2, len(v), dtype=torch.float64) for name, v in vectors.items()} for vectors in ends
            ]
            for part in self.sample.parts():
                for moments, made in zip(sums, self.quadratic(part, ends), strict=True):
                    for name, found in made.items():
                        each = part.images * found.cpu()
                        moments[name] += torch.stack([each.sum(0), each.square().sum(0)])
            return sums

        sums = self._over_processes(self.swept(sweep))
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


def _complete(totals: Sequence[Vectors], ends: Sequence[Vectors]) -> list[Vectors]:
    """The totals in the order of their vectors; those of groups that nothing was added to are 0."""
    return [
        {name: total[name] if name in total else torch.zeros_like(v) for name, v in vectors.items()}
        for total, vectors in zip(totals, ends, strict=True)
    ]


def _send_back(segment: Segment, pieces: Pieces, moves: Moves, spent: bool, take: Take) -> None:
    """Half the gradient of v^T S v to each move of a weight it depends on; each is let go before the next is found.

    To the moves, not to v: autograd would fill a matrix of zeros for each weight that v's rows are made of.
    """
    for dim, each in enumerate((moves.rows, moves.columns)):
        for layer, move in each.items():
            move.requires_grad_().register_post_accumulate_grad_hook(partial(_taken, take, dim, layer))
    with torch.enable_grad():
        outputs, halves = _pulls(segment, pieces, moves, spent)
        torch.autograd.backward(outputs, halves, inputs=[*moves.rows.values(), *moves.columns.values()])


def _taken(take: Take, dim: int, layer: str, move: Tensor) -> None:
    gradient, move.grad = move.grad, None
    assert gradient is not None
    take(dim, layer, gradient)


def _pulls(segment: Segment, pieces: Pieces, moves: Moves, spent: bool) -> tuple[list[Tensor], list[Tensor]]:
    """The tangent pass of one segment: tensors on its way, and half the gradient of what counts to each.

    spent: whether the pieces are used for the last time.
    """
    t: Tangents = {}
    outputs, halves = [], []
    for step, piece in zip(segment.steps, pieces, strict=True):
        if step.counts:
            tangent, pulls = piece.counted(t, moves, step.passes, spent)
            outputs += [output for output, _ in pulls]
            halves += [half for _, half in pulls]
        else:
            tangent = piece.carry(t, moves)
        if step.passes:
            t[step.result] = tangent
        for node in step.frees:
            del t[node]
    return outputs, halves


def _counting(segment: Segment, pieces: Sequence[Piece], moves: Moves) -> Iterator[tuple[Step, Piece, Tangents]]:
    """The tangent pass of one segment, element by element: stops at each step that counts, with the tangents there."""
    t: Tangents = {}
    for step, piece in zip(segment.steps, pieces, strict=True):
        if step.passes:
            t[step.result] = piece.carry(t, moves)
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
