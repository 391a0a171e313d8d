"""S v of one layer by unfolded patches, as published, beside ours: seconds and memory.

    python benchmarks/published_operator.py [--widths 16 64 256] [--size 16] [--batch 16] [--out benchmarks/results]

The splitting matrix of a neuron behind one nonlinearity is (Wu et al. 2019, arXiv 1910.02366; Wang et al. 2019,
arXiv 1910.03103, eq. 7)

    S_i = sum over images and positions p of  G_ip sigma''(z_ip) x_p x_p^T,   G = dL / d sigma(z),

with x_p the patch of the layer's input under position p. Written down as it stands: unfold the input into patches, and
take S_i v_i = sum_p w_ip (x_p . v_i) x_p by two matrix products. `unfolded` unfolds at each call; `patches kept` holds
patches between calls, as many times the input's memory as the kernel has elements. Each is the quickest of several
ways to write it (an einsum is slower). Neither forms S_i. This is our own code after the formulas, not the authors'.

Ours is the package's operator with curvature = "producer" on the same layer, with captures kept: two convolutions.
Layers: convolution, batch norm (running statistics), SiLU, as many channels out as in. Input, weights w and v are given
to all; what is timed is S v from them. First all three must agree in float64.
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from timing import Call, begin, command, conditions, interleaved, milliseconds, peak_bytes, ratio, timing_parser, write
from torch import Tensor, nn

import energysplit as es
from energysplit.splitting.operator import SplittingOperator

CLASSES = 10
AGREEMENT = 1e-10


@dataclass(frozen=True)
class Published:
    """The operator of the formula. x: input, (images, channels, height, width). w: (images, neurons, positions)."""

    x: Tensor
    w: Tensor
    kernel: int

    def apply(self, v: Tensor) -> Tensor:
        """S_i v_i of each neuron, one a row, as v is; patches are unfolded, and forgotten."""
        patches = F.unfold(self.x, self.kernel, padding=self.kernel // 2)
        return (self.w * (v @ patches) @ patches.mT).sum(0)

    def kept(self) -> PatchesKept:
        """The same with patches kept."""
        patches = F.unfold(self.x, self.kernel, padding=self.kernel // 2)
        return PatchesKept(_joined(patches), _joined(self.w))


@dataclass(frozen=True)
class PatchesKept:
    """The operator of the formula, patches one a column. patches: (dims, positions). w: (neurons, positions)."""

    patches: Tensor
    w: Tensor

    def apply(self, v: Tensor) -> Tensor:
        """S_i v_i of each neuron, one a row, as v is."""
        return self.w * (v @ self.patches) @ self.patches.T


def _joined(each: Tensor) -> Tensor:
    """(images, rows, positions) as (rows, images x positions)."""
    return each.transpose(0, 1).flatten(1)


def main() -> None:
    """Check and measure every layer, and write a table."""
    parser = timing_parser(__doc__, repeats=15)
    parser.add_argument("--kernels", type=int, nargs="+", default=[1, 3])
    parser.add_argument("--widths", type=int, nargs="+", default=[16, 64, 256])
    parser.add_argument("--size", type=int, default=16, help="height and width of the layer's input")
    parser.add_argument("--batch", type=int, default=16)
    options = parser.parse_args()
    device = begin(options)

    rows, samples = [], []
    for kernel in options.kernels:
        for width in options.widths:
            torch.manual_seed(0)
            module = network(kernel, width).to(device)
            x = torch.randn(options.batch, width, options.size, options.size, device=device)
            y = torch.randint(CLASSES, (options.batch,), device=device)
            difference = disagreement(module, x, y)
            if difference > AGREEMENT:
                raise SystemExit(f"{kernel}x{kernel}, {width} channels: results differ by {difference:.1e} in float64")

            published, ours = published_operator(module, x, y), our_operator(module, x, y)
            vectors = ours.random_vectors(seed=0)
            (v,) = vectors.values()
            kept = published.kept()
            ways: dict[str, Call] = {
                "ours": partial(ours.apply, vectors),
                "unfolded": partial(published.apply, v),
                "patches kept": partial(kept.apply, v),
            }
            seconds = interleaved(ways, options.repeats, device)
            peak = {name: peak_bytes(way, device) for name, way in ways.items()}
            held = kept.patches.numel() * kept.patches.element_size()
            rows.append(
                f"| {kernel}x{kernel} | {width} | {milliseconds(seconds['ours'])} "
                f"| {ratio(seconds['unfolded'], seconds['ours'])} | {ratio(seconds['patches kept'], seconds['ours'])} "
                f"| {peak['ours'] / 2**20:.2f} | {peak['unfolded'] / peak['ours']:.2f} "
                f"| {(peak['patches kept'] + held) / peak['ours']:.2f} | {difference:.0e} |"
            )
            print(rows[-1], flush=True)
            samples.append(
                {"kernel": kernel, "width": width, "seconds": seconds, "peak_bytes": peak, "kept_patches_bytes": held}
            )
    lines = [
        f"# S v of one layer by patches, batches of {options.batch} at {options.size}x{options.size}",
        "",
        f"{command()}, float32. "
        f"{conditions(options)} Milliseconds with quartiles; ratios are the published way over ours, with 95 % "
        "intervals, so above 1 ours needs less. Memory: at the peak of the call, with the patches that `patches kept` "
        "holds between calls; the input and w, which all hold, left out.",
        "",
        "| kernel | channels | ours, ms | time, unfolded | time, patches kept | ours, MiB | memory, unfolded "
        "| memory, patches kept | difference in float64 |",
        "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
        *rows,
    ]
    write(options, "published_operator", lines, samples)


def network(kernel: int, width: int) -> nn.Sequential:
    """The layer under test, and as little behind it as makes a loss; statistics and scales of the batch norm drawn."""
    norm = nn.BatchNorm2d(width)
    for name, low, high in (("running_mean", -0.5, 0.5), ("running_var", 0.5, 2.0), ("weight", 0.5, 1.5)):
        nn.init.uniform_(getattr(norm, name), low, high)
    conv = nn.Conv2d(width, width, kernel, padding=kernel // 2, bias=False)
    layer = OrderedDict(conv=conv, norm=norm, act=nn.SiLU())
    head = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flat=nn.Flatten(), classifier=nn.Linear(width, CLASSES))
    return nn.Sequential(OrderedDict(**layer, **head)).eval()


def published_operator(module: nn.Sequential, x: Tensor, y: Tensor) -> Published:
    """The formula's x and w, by autograd; sigma is SiLU after the batch norm's scale and shift."""
    conv, norm, act = module[0], module[1], module[2]
    assert isinstance(conv, nn.Conv2d)
    z = conv(x).detach().requires_grad_()
    out = act(norm(z))
    (gradient,) = torch.autograd.grad(F.cross_entropy(module[3:](out), y), out, retain_graph=True)
    (first,) = torch.autograd.grad(out.sum(), z, create_graph=True)
    (second,) = torch.autograd.grad(first.sum(), z)
    return Published(x, (gradient * second).flatten(2), conv.kernel_size[0])


def our_operator(module: nn.Sequential, x: Tensor, y: Tensor) -> SplittingOperator:
    """The package's, with the capture kept from the first sweep on."""
    net = es.trace(module, x[:2])
    return SplittingOperator(net, [(x, y)], F.cross_entropy, curvature="producer", cache_bytes=2**40)


def disagreement(module: nn.Sequential, x: Tensor, y: Tensor) -> float:
    """Largest relative difference of S v between the three ways, in float64."""
    module, x = module.double(), x.double()
    published, ours = published_operator(module, x, y), our_operator(module, x, y)
    vectors = ours.random_vectors(seed=1)
    ((v,), (found,)) = vectors.values(), ours.apply(vectors).values()
    differences = [(other - found).norm() for other in (published.apply(v), published.kept().apply(v))]
    module.float()
    return float(torch.stack(differences).max() / found.norm())


if __name__ == "__main__":
    main()
