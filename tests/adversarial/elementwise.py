"""Element-wise arithmetic of one branch or of several: what bends, what divides, and what only looks element-wise."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import Cases, around, conv

CASES = Cases()


@CASES(splits=("conv.weight",), predicts=True)
def numbers_added_and_multiplied():
    return around(lambda m, x: 1.5 - 2 * F.silu(x * 2 + 0.5) / 3)


@CASES(splits=("conv.weight",), predicts=True)
def swish_by_hand():
    return around(lambda m, x: F.avg_pool2d(x * torch.sigmoid(x), 2))


@CASES(splits=("conv.weight",), smooth=False)
def hard_swish_by_hand():
    return around(lambda m, x: x * F.relu6(x + 3) / 6)


@CASES(splits=("a.weight", "b.weight"), predicts=True)
def gated_hidden_layer():
    """SwiGLU: both factors move."""
    return around(lambda m, x: m.down(F.silu(m.a(x)) * m.b(x)), 3, a=conv(4, 6, 1), b=conv(4, 6, 1), down=conv(6, 3, 1))


@CASES(splits=("conv.weight",), predicts=True)
def squared():
    return around(lambda m, x: x**2 - x.square() * 0.3 + x.pow(3))


@CASES(predicts=True)
def element_wise_functions():
    return around(lambda m, x: torch.exp(-x.square()) + torch.sin(x) + x.cos() + torch.erf(x) + torch.atan(x))


@CASES(smooth=False)
def kinked_functions():
    return around(lambda m, x: torch.clamp(x, -0.2, 0.4) + x.abs() + F.hardtanh(x) + x.relu() + F.leaky_relu(x))


@CASES(predicts=True)
def divided_by_another_branch():
    return around(lambda m, x: x / (1 + m.second(x).square()), second=conv(4, 4))


@CASES(predicts=True)
def number_divided_by_channels():
    return around(lambda m, x: 1 / (2 + x.square()))


@CASES(smooth=False)
def chosen_by_a_condition():
    return around(lambda m, x: torch.where(x > 0.1, x, 0.1 * x))


@CASES(smooth=False)
def chosen_between_branches():
    return around(lambda m, x: torch.where(m.second(x) > 0, x, m.second(x)), second=conv(4, 4))


@CASES(smooth=False)
def larger_of_two_branches():
    return around(lambda m, x: torch.maximum(x, m.second(x)), second=conv(4, 4))


@CASES(smooth=False)
def masked():
    return around(lambda m, x: x.masked_fill(x < 0, 0.0) + x.masked_fill(x > 0, -0.1))


@CASES(predicts=True)
def fused_arithmetic():
    def run(m, x):
        y = m.second(x)
        return torch.lerp(x, y, 0.3) + torch.addcmul(x, x, y, value=0.5)

    return around(run, second=conv(4, 4))


@CASES(smooth=False)
def rounded():
    return around(lambda m, x: x + torch.round(x * 4) / 4 - x.floor() + torch.sign(x))


@CASES(refuses={"conv.weight": "."})
def channels_times_their_own_transpose():
    """Element-wise product of an image of channels with the same, channels and rows swapped."""
    return around(lambda m, x: x * x.transpose(1, 2), 8, conv=conv(3, 8))


@CASES(refuses={"conv.weight": "."})
def channels_against_channels():
    """Broadcasting makes every channel meet every other one."""
    return around(lambda m, x: (x.unsqueeze(1) * torch.sigmoid(x.unsqueeze(2))).mean(1))


@CASES(refuses={"conv.weight": "."})
def channels_meet_positions():
    """(b, 4, 8, 8) plus (b, 1, 1, 8): the second's channels stand where the first has columns."""

    def run(m, x):
        return x + m.second(x).mean((2, 3))[:, None, None, :]

    return around(run, second=conv(4, 8, 1))


@CASES(splits=("conv.weight",), predicts=True)
def dropout_of_channels():
    return around(
        lambda m, x: m.second(F.dropout2d(m.drop(x), 0.2, m.training)), drop=nn.Dropout2d(0.3), second=nn.Dropout(0.1)
    )


@CASES(splits=("conv.weight",), predicts=True)
def activations_with_options():
    def run(m, x):
        y = F.gelu(x, approximate="tanh") + F.softplus(x, beta=2.0, threshold=50) + m.soft(x) + m.gelu(x * 2)
        return y + torch.sigmoid(x) + F.logsigmoid(x) + x.tanh() * F.mish(x, inplace=False)

    return around(run, soft=nn.Softplus(0.5, 60), gelu=nn.GELU(approximate="tanh"))


@CASES(smooth=False)
def kinked_activations_with_options():
    def run(m, x):
        y = F.leaky_relu(x, 0.3, False) + F.elu(x, alpha=0.5) + F.hardtanh(x, min_val=-0.2, max_val=0.3) + x.clamp(0.1)
        return y + torch.clamp(x, max=0.2) + x.clamp(min=-0.1) + m.leaky(x) + m.hard(x)

    return around(run, leaky=nn.LeakyReLU(0.4), hard=nn.Hardtanh(-0.3, 0.1))


@CASES(predicts=True)
def powers():
    return around(lambda m, x: x**2.0 + (x.square() + 1) ** -1 + 2**x + (1 + x.square()).pow(0.5))
