"""The splitting operator of a fixed sample: v -> S v for every neuron of every group in one sweep, matrix-free.

S is never formed. A sweep runs the tangent pass of each group on each batch and its transpose (by autograd through
the quadratic form), both linear passes; captured batches are kept on the device while memory allows, so that a
further sweep costs little more than two convolutions a group.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Float
from torch import Tensor

from energysplit.graph import Network
from energysplit.splitting.capture import Capture, Loss, bends, capture, count_images

Vectors = dict[str, Tensor]
"""Group -> one vector a neuron, shaped like the producer's weight."""
Batches = Sequence[tuple[Tensor, Tensor]]

CPU_CACHE_BYTES = 3 * 2**30


class SplittingOperator:
    """S of all neurons on a sample of batches.

    Args:
        net: the network.
        batches: (input, target) pairs; moved to the model's device when used.
        loss_fn: (output, target) -> mean loss.
        curvature: see `capture.bends`.
        linear: see `capture.bends`.
        kink_beta: see `curvature.derivatives`.
        cache_bytes: captured batches are kept up to this many bytes; None: half of the free device memory on CUDA,
            3 GiB on CPU.
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
        cache_bytes: int | None = None,
    ) -> None:
        self.net = net
        self.batches = batches
        self.images = count_images(batches)
        self.loss_fn = loss_fn
        self.counted = bends(net, curvature, linear)
        self.kink_beta = kink_beta
        self.shapes = {name: net.weight(net.groups[name].producers[0]).shape for name in self.counted}
        parameter = next(net.module.parameters())
        self.dtype, self.device = parameter.dtype, parameter.device
        self._cache: dict[int, Capture] = {}
        self._room = _cache_room(self.device) if cache_bytes is None else cache_bytes

    def captures(self, batches: int | None = None) -> Iterator[Capture]:
        """What each of the first `batches` batches (all by default) left for the tangent passes."""
        for number, (x, target) in enumerate(self.batches[:batches]):
            held = self._cache.get(number)
            if held is None:
                held = capture(
                    self.net,
                    x.to(self.device, self.dtype),
                    target.to(self.device),
                    self.loss_fn,
                    self.counted,
                    self.kink_beta,
                )
                if held.bytes <= self._room:
                    self._room -= held.bytes
                    self._cache[number] = held
            yield held

    def apply(self, vectors: Vectors, batches: int | None = None) -> Vectors:
        """S v for each neuron: one sweep over the sample, or over its first `batches` batches."""
        images = count_images(self.batches[:batches])
        total = {name: torch.zeros_like(v) for name, v in vectors.items()}
        for held in self.captures(batches):
            for name, v in apply_batch(held, vectors).items():
                total[name] += v * (held.images / images)
        return total

    def evaluate(self, vectors: Vectors) -> dict[str, tuple[Float[Tensor, " n"], Float[Tensor, " n"]]]:
        """Group -> (v^T S v, its standard error over images) of each neuron; one forward tangent pass.

        Error: the sample is independent images; the standard error is that of a mean, NaN for a single image.
        """
        first: dict[str, Tensor] = {name: torch.zeros(len(v), dtype=torch.float64) for name, v in vectors.items()}
        second = {name: torch.zeros_like(total) for name, total in first.items()}
        with torch.no_grad():
            for held in self.captures():
                for name, group in held.groups.items():
                    each = held.images * group.quadratic(vectors[name]).double().cpu()
                    first[name] += each.sum(0)
                    second[name] += each.square().sum(0)
        n = self.images
        result = {}
        for name in first:
            mean = first[name] / n
            variance = (second[name] / n - mean.square()).clamp_min(0) * n / (n - 1) if n > 1 else mean * float("nan")
            result[name] = (mean, (variance / n).sqrt())
        return result

    def sums(self, vectors: Vectors, weightings: Sequence[Vectors]) -> list[tuple[float, float]]:
        """For each weighting (group -> one weight a neuron), the weighted sum of v^T S v and its standard error.

        Error: over images. Neurons share images, so their errors are correlated and do not add up as squares; here
        each image's whole sum is one observation. NaN for a single image.
        """
        first = [0.0 for _ in weightings]
        second = [0.0 for _ in weightings]
        with torch.no_grad():
            for held in self.captures():
                each = {
                    name: held.images * group.quadratic(vectors[name]).double() for name, group in held.groups.items()
                }
                for number, weights in enumerate(weightings):
                    image = torch.stack([each[name] @ w.to(each[name]) for name, w in weights.items()]).sum(0)
                    first[number] += float(image.sum())
                    second[number] += float(image.square().sum())
        n = self.images
        means = [total / n for total in first]
        if n == 1:
            return [(mean, float("nan")) for mean in means]
        return [
            (mean, (max(0.0, square / n - mean**2) / (n - 1)) ** 0.5)
            for mean, square in zip(means, second, strict=True)
        ]

    def random_vectors(self, seed: int) -> Vectors:
        """Random unit vectors, one a neuron, the same for a seed on every device."""
        generator = torch.Generator().manual_seed(seed)
        drawn = {
            name: torch.randn(shape, generator=generator, dtype=torch.float64) for name, shape in self.shapes.items()
        }
        return {name: normalise(v).to(self.device, self.dtype) for name, v in drawn.items()}


def apply_batch(held: Capture, vectors: Vectors) -> Vectors:
    """S v of one captured batch: half the gradient of v^T S v, which is separate for every neuron."""
    result = {}
    for name, group in held.groups.items():
        with torch.enable_grad():
            v = vectors[name].detach().requires_grad_()
            (gradient,) = torch.autograd.grad(group.quadratic(v).sum(), v)
        result[name] = gradient / 2
    return result


def normalise(v: Tensor) -> Tensor:
    """Each neuron's vector scaled to unit norm; a zero vector stays zero."""
    norm = v.flatten(1).norm(dim=1).clamp_min(torch.finfo(v.dtype).tiny)
    return v / norm.reshape(-1, *(1,) * (v.dim() - 1))


def dots(a: Tensor, b: Tensor) -> Float[Tensor, " neurons"]:
    """Inner product of each neuron's vectors."""
    return (a.flatten(1) * b.flatten(1)).sum(1)


def _cache_room(device: torch.device) -> int:
    if device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(device)
        return free // 2
    return CPU_CACHE_BYTES
