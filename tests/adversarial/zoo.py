"""Operations and layers by the dozen between two convolutions, each alone: whoever takes one for another is found out.

What an operation does to channels is not said here, except where it plainly compares or reorders them.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
import torchvision
from torch import nn
from torch.nn.utils import prune

from adversarial.case import Case, Cases, around, conv

_GRID = torch.linspace(-1, 1, 4, dtype=torch.float64)

# Channels are compared, counted, ordered or mixed: a copy shows.
MIXING = {
    "argsort": lambda m, x: x * x.argsort(1),
    "bmm": lambda m, x: torch.bmm(x.flatten(2), x.flatten(2).transpose(1, 2))[..., None],
    "corrcoef": lambda m, x: x * torch.corrcoef(x.transpose(0, 1).flatten(1)).sum(),
    "cummax": lambda m, x: torch.cummax(x, 1)[0],
    "cumprod": lambda m, x: torch.cumprod(x, 1),
    "diagonal": lambda m, x: x * torch.diagonal(x[:, :, :4], 0, 1, 2).sum(-1)[:, None, :, None],
    "diff": lambda m, x: torch.cat([torch.diff(x, dim=1), x.diff(dim=-3, n=2)], 1)[:, :4],
    "dist": lambda m, x: x * torch.dist(x, torch.zeros_like(x)),
    "einsum": lambda m, x: torch.einsum("bchw,bdhw->bchw", x, x),
    "frobenius": lambda m, x: x / torch.linalg.norm(x.flatten(1), dim=1)[:, None, None, None],
    "gather": lambda m, x: x.gather(1, (x > 0).long()),
    "index_add": lambda m, x: x.index_add(1, torch.tensor([0, 3]), x[:, :2]),
    "kthvalue": lambda m, x: x - torch.kthvalue(x, 2, dim=1, keepdim=True)[0],
    "logcumsumexp": lambda m, x: torch.logcumsumexp(x, 1),
    "median": lambda m, x: x - x.median(1, keepdim=True).values,
    "nanmean": lambda m, x: x - x.nanmean(1, keepdim=True),
    "norm_of_all": lambda m, x: x / x.norm(),
    "pairwise_distance": lambda m, x: x * F.pairwise_distance(x.flatten(1), x.flatten(1) * 0.5)[:, None, None, None],
    "prod": lambda m, x: x * x.prod(1, keepdim=True),
    "quantile": lambda m, x: x - torch.quantile(x, 0.3, dim=1, keepdim=True),
    "renorm": lambda m, x: x.renorm(2, 1, 0.5) * x.norm(),
    "rms_norm": lambda m, x: F.rms_norm(x, x.shape[1:]),
    "rot90": lambda m, x: torch.rot90(x, 2, (1, 2)),
    "scatter": lambda m, x: x.scatter(1, torch.zeros_like(x[:, :1]).long(), 1.0),
    "softmax_of_everything": lambda m, x: x * torch.softmax(x.flatten(1), 1).view_as(x),
    "standardised": lambda m, x: (x - x.mean()) / x.var(),
    "take": lambda m, x: x * torch.take(x, torch.tensor([3])),
    "take_along_dim": lambda m, x: torch.take_along_dim(x, x.argmax(1, keepdim=True), 1) * x,
    "tensordot": lambda m, x: x * torch.tensordot(x, x, dims=4),
    "unfold_method": lambda m, x: torch.cat([x.unfold(1, 2, 1).sum(-1), x[:, :1]], 1),
    "var_mean": lambda m, x: x * torch.var_mean(x, 1, keepdim=True)[0],
    "rolled_copies": lambda m, x: torch.cat([x.roll(k, 1) for k in range(4)], 1)[:, 2:6],
    "where_by_number": lambda m, x: torch.where(torch.arange(4)[:, None, None] > 1, x, -x),
    "weighted_by_position": lambda m, x: x * _GRID[:, None, None],
    "windows_of_channels": lambda m, x: x * F.unfold(x.transpose(1, 2), 3, padding=1).sum((1, 2))[:, None, None, None],
}

# Each channel by itself, as far as numbers go; whether that is known is another matter.
SINGLE = {
    "acosh": lambda m, x: torch.acosh(1.5 + x.square()),
    "addcdiv": lambda m, x: torch.addcdiv(x, x, 1 + x.square(), value=0.3),
    "amin_over_positions": lambda m, x: x - x.amin((2, 3), keepdim=True),
    "bernoulli_of_certainty": lambda m, x: x * torch.ones_like(x).bernoulli(1.0),
    "bool_mask": lambda m, x: x * (x > 0) + (x < -0.1).double(),
    "celu": lambda m, x: F.celu(x, 0.7),
    "channels_last": lambda m, x: x.contiguous(memory_format=torch.channels_last).to(
        memory_format=torch.preserve_format
    ),
    "cosh": lambda m, x: torch.cosh(x) - torch.sinh(x),
    "digamma": lambda m, x: torch.lgamma(1.5 + x.square()),
    "double_softmax_of_positions": lambda m, x: torch.softmax(x, -1) * torch.softmax(x, -2),
    "fft_over_positions": lambda m, x: torch.fft.rfft2(x).abs() * 0.1,
    "floor_divide": lambda m, x: (x * 7) // 2 + (x * 5) % 3,
    "hardshrink": lambda m, x: F.hardshrink(x, 0.1) + F.softshrink(x, 0.1) + F.tanhshrink(x),
    "hypot": lambda m, x: torch.hypot(x, x * 0.5) + torch.atan2(x, 1 + x.square()),
    "isnan": lambda m, x: torch.where(torch.isnan(x), torch.zeros_like(x), x),
    "logaddexp": lambda m, x: torch.logaddexp(x, -x),
    "minimum": lambda m, x: torch.minimum(x, x.square()),
    "mish_and_friends": lambda m, x: F.mish(x) + F.elu(x, 0.5) + F.selu(x) + F.softplus(x, 2) + F.softsign(x),
    "nan_to_num": lambda m, x: torch.nan_to_num(x),
    "norm_over_positions": lambda m, x: x / x.norm(dim=(2, 3), keepdim=True),
    "one_element": lambda m, x: x + x[:, :, 3:4, 4:5] * x[..., 0, 0][..., None, None],
    "outer_of_positions": lambda m, x: x.mean(3, keepdim=True) * x.mean(2, keepdim=True),
    "power_of_itself": lambda m, x: x.square().add(1).pow(torch.tanh(x)),
    "remainder": lambda m, x: torch.remainder(x, 0.5),
    "reciprocal": lambda m, x: torch.reciprocal(2 + x.square()) + x.square().add(1).rsqrt(),
    "sorted_positions": lambda m, x: x.flatten(2).sort(-1)[0].unflatten(2, (8, 8)),
    "squeeze_of_nothing": lambda m, x: x.squeeze().unsqueeze(-1).squeeze(-1),
    "sum_to_size": lambda m, x: x.sum_to_size(x.size(0), x.size(1), 1, 1),
    "threshold": lambda m, x: F.threshold(x, 0.1, 0.02),
    "to_half_and_back": lambda m, x: x.to(torch.float32).type(torch.float64),
    "transposed_view": lambda m, x: x.mT + x.transpose(-2, -1).contiguous(),
    "triu_of_positions": lambda m, x: torch.triu(x) + x.tril(-1) * 0.5,
    "trunc": lambda m, x: torch.trunc(x * 3) + torch.frac(x),
    "xlogy": lambda m, x: torch.xlogy(x, 1 + x.square()),
}

LAYERS = {
    "AdaptiveMaxPool2d": lambda: nn.AdaptiveMaxPool2d(3),
    "AlphaDropout": lambda: nn.AlphaDropout(0.2),
    "AvgPool2d": lambda: nn.AvgPool2d(3, 2, 1, ceil_mode=True, count_include_pad=False),
    "ChannelShuffle": lambda: nn.ChannelShuffle(2),
    "CircularPad2d": lambda: nn.CircularPad2d(1),
    "ConstantPad2d": lambda: nn.ConstantPad2d(1, 0.7),
    "CrossMapLRN2d": lambda: nn.CrossMapLRN2d(3),
    "DropBlock": lambda: torchvision.ops.DropBlock2d(0.1, 3),
    "FeatureAlphaDropout": lambda: nn.FeatureAlphaDropout(0.2),
    "FrozenBatchNorm": lambda: torchvision.ops.FrozenBatchNorm2d(4),
    "GLU": lambda: nn.Sequential(nn.GLU(1), conv(2, 4)),
    "Identity": lambda: nn.Identity(),
    "LPPool2d": lambda: nn.LPPool2d(2, 2),
    "LogSoftmax": lambda: nn.LogSoftmax(dim=1),
    "MaxPool2d": lambda: nn.MaxPool2d(3, 2, 1, dilation=2, ceil_mode=True),
    "Mish": lambda: nn.Mish(),
    "PReLU": lambda: nn.PReLU(4),
    "RMSNorm": lambda: nn.RMSNorm([4, 8, 8]),
    "RReLU": lambda: nn.RReLU(),
    "ReflectionPad2d": lambda: nn.ReflectionPad2d(2),
    "SELU": lambda: nn.SELU(),
    "Softmax2d": lambda: nn.Softmax2d(),
    "Softmin": lambda: nn.Softmin(dim=1),
    "Softshrink": lambda: nn.Softshrink(0.1),
    "SqueezeExcitation": lambda: torchvision.ops.SqueezeExcitation(4, 3),
    "StochasticDepth": lambda: torchvision.ops.StochasticDepth(0.3, "row"),
    "SyncBatchNorm": lambda: nn.SyncBatchNorm(4),
    "Tanhshrink": lambda: nn.Tanhshrink(),
    "Threshold": lambda: nn.Threshold(0.1, 0.02),
    "Upsample": lambda: nn.Upsample(scale_factor=1.5, mode="bicubic"),
    "UpsamplingNearest2d": lambda: nn.UpsamplingNearest2d(scale_factor=2),
    "ZeroPad2d": lambda: nn.ZeroPad2d((1, 2, 3, 0)),
}

CASES = Cases()


for _name, _op in MIXING.items():
    CASES[f"op_{_name}"] = Case(lambda op=_op: around(op), refuses={"conv.weight": "."}, smooth=False)
for _name, _op in SINGLE.items():
    CASES[f"op_{_name}"] = Case(lambda op=_op: around(op), smooth=False)
for _name, _layer in LAYERS.items():
    CASES[f"layer_{_name}"] = Case(
        lambda make=_layer: around(lambda m, x: torch.tanh(m.layer(x)), layer=make()), smooth=False
    )


@CASES(refuses={"conv.weight": "."})
def deformable_convolution():
    def run(m, x):
        return torchvision.ops.deform_conv2d(x, m.offset(x), m.kernel, padding=1)

    return around(run, offset=conv(4, 18), kernel=nn.Parameter(torch.ones(4, 4, 3, 3)))


@CASES(smooth=False)
def pruned_layer():
    second = conv(4, 4)
    prune.random_unstructured(second, "weight", 0.4)
    second.weight = second.weight.detach()  # or the fresh module can't be copied
    return around(lambda m, x: torch.tanh(m.second(x)), second=second)
