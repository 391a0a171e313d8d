"""Grouped, depthwise, transposed and recurrent layers: one neuron is more than one row, or no row at all."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import CLASSES, Cases, Net, around, conv, sequences

CASES = Cases()


@CASES(inputs=sequences(6, 8))
def lstm():
    return Net(
        lambda m, x: m.fc(m.cells(m.first(x))[0][:, -1]),
        first=nn.Linear(8, 4),
        cells=nn.LSTM(4, 4, batch_first=True),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(inputs=sequences(6, 8))
def gru():
    def run(m, x):
        y, last = m.cells(torch.tanh(m.first(x)))
        return m.fc(torch.cat([y.mean(1), last[0]], 1))

    return Net(run, first=nn.Linear(8, 4), cells=nn.GRU(4, 3, batch_first=True), fc=nn.Linear(6, CLASSES))


@CASES(inputs=sequences(4, 8))
def recurrent_cell_by_hand():
    """One linear layer, called once a step, whose output comes back to its input."""

    def run(m, x):
        state = m.enter(x[:, 0])
        for n in range(1, 4):
            state = torch.tanh(m.enter(x[:, n]) + m.again(state))
        return m.fc(state)

    return Net(run, enter=nn.Linear(8, 4), again=nn.Linear(4, 4), fc=nn.Linear(4, CLASSES))


@CASES()
def transposed_convolution():
    return around(lambda m, x: F.silu(m.up(x)), 6, up=nn.ConvTranspose2d(4, 6, 2, 2))


@CASES()
def grouped_transposed_convolution():
    return around(lambda m, x: F.silu(m.up(x)), 6, up=nn.ConvTranspose2d(4, 6, 2, 2, groups=2))


@CASES()
def three_dimensional_convolution():
    return Net(
        lambda m, x: m.fc(F.silu(m.second(F.silu(m.first(x.unsqueeze(2))))).mean((2, 3, 4))),
        first=nn.Conv3d(3, 4, (1, 3, 3), padding=(0, 1, 1)),
        second=nn.Conv3d(4, 6, (1, 3, 3), padding=(0, 1, 1)),
        fc=nn.Linear(6, CLASSES),
    )


@CASES(inputs=sequences(6, 8), splits=("first.weight", "second.weight"), predicts=True)
def one_dimensional_convolutions():
    return Net(
        lambda m, x: m.fc(F.silu(m.n(m.second(F.gelu(m.first(x))))).mean(2)),
        first=nn.Conv1d(6, 4, 3),
        second=nn.Conv1d(4, 4, 3, groups=4),
        n=nn.BatchNorm1d(4),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(splits=("conv.weight",), predicts=True)
def depthwise_with_two_filters_a_channel():
    return around(lambda m, x: F.silu(m.n(m.depthwise(x))), 8, depthwise=conv(4, 8, groups=4), n=nn.BatchNorm2d(8))


@CASES(predicts=True)
def depthwise_with_two_filters_on_a_trunk():
    """The doubled channels meet a producer's: they are neurons of two rows there."""
    return around(lambda m, x: F.silu(m.depthwise(x) + m.wide(x)), 8, depthwise=conv(4, 8, groups=4), wide=conv(4, 8))


@CASES(refuses={"conv.weight": "."})
def depthwise_on_the_image():
    return around(lambda m, x: F.silu(x), 3, conv=conv(3, 3, groups=3))


@CASES(refuses={"conv.weight": "."})
def depthwise_with_two_filters_on_the_image():
    return around(lambda m, x: F.silu(x), 6, conv=conv(3, 6, groups=3))


@CASES(splits=("conv.weight", "grouped.weight"), predicts=True)
def grouped_convolution():
    return around(lambda m, x: F.silu(m.grouped(x)), 6, conv=conv(3, 4), grouped=conv(4, 6, groups=2))


@CASES(predicts=True)
def groups_as_many_as_outputs():
    """4 inputs, 2 outputs, 2 groups: one filter a group, and yet not depthwise."""
    return around(lambda m, x: F.silu(m.grouped(x)), 2, grouped=conv(4, 2, groups=2))


@CASES(predicts=True)
def groups_of_different_numbers_in_sequence():
    def run(m, x):
        return F.silu(m.three(F.silu(m.two(x))))

    return around(run, 6, conv=conv(3, 4), two=conv(4, 6, groups=2), three=conv(6, 6, groups=3))


@CASES(predicts=True)
def groups_then_depthwise_then_groups():
    def run(m, x):
        return F.silu(m.back(F.silu(m.depthwise(m.two(x)))))

    return around(run, 4, two=conv(4, 6, groups=2), depthwise=conv(6, 6, groups=6), back=conv(6, 4, groups=2))


@CASES(predicts=True)
def grouped_convolution_on_a_residual_trunk():
    return around(lambda m, x: F.silu(x + m.b(F.silu(m.a(x)))), a=conv(4, 6, groups=2), b=conv(6, 4, groups=2))


@CASES(predicts=True)
def shuffled_between_grouped_convolutions():
    """ShuffleNet V1's unit."""

    def run(m, x):
        y = F.silu(m.a(x))
        b, c, h, w = y.shape
        y = y.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, -1, h, w)
        return F.silu(m.b(m.d(y)))

    return around(run, a=conv(4, 8, 1, groups=2), d=conv(8, 8, groups=8), b=conv(8, 4, 1, groups=2))


@CASES(refuses={"conv.weight": "several filters in 'depthwise.weight'"})
def depthwise_with_two_filters_whose_halves_meet():
    """All rows are one neuron, and the order of its copies is not told by the channels: it is refused."""

    def run(m, x):
        a, b = m.depthwise(x).chunk(2, 1)
        return a * torch.sigmoid(b)

    return around(run, 2, conv=conv(3, 2), depthwise=conv(2, 4, groups=2))


@CASES(predicts=True)
def two_depthwise_convolutions_with_two_filters_added():
    return around(
        lambda m, x: torch.tanh(m.depthwise(x) + m.other(x)),
        4,
        conv=conv(3, 2),
        depthwise=conv(2, 4, groups=2),
        other=conv(2, 4, groups=2),
    )
