"""Branches that meet: residuals, concatenation, gates, products, and what looks like them and is something else."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import CLASSES, Cases, Net, around, conv

CASES = Cases()


def norm(channels):
    return nn.BatchNorm2d(channels)


@CASES(splits=("conv.weight", "a.weight", "b.weight"), predicts=True)
def residual_trunk():
    def run(m, x):
        x = x + m.n2(m.b(F.silu(m.n1(m.a(x)))))
        return F.silu(x)

    return around(run, a=conv(4, 3), n1=norm(3), b=conv(3, 4), n2=norm(4))


@CASES(splits=("conv.weight", "a.weight", "b.weight", "project.weight"), predicts=True)
def residual_with_projection():
    def run(m, x):
        y = m.b(F.gelu(m.a(x)))
        return torch.tanh(y + m.n(m.project(x)))

    return around(run, 6, a=conv(4, 3, stride=2), b=conv(3, 6), project=nn.Conv2d(4, 6, 1, 2), n=norm(6))


@CASES(refuses={"conv.weight": "pad|fixed"})
def residual_with_zeros_for_new_channels():
    """ResNet's option A: the shortcut's new channels are zeros, as many as the code says."""

    def run(m, x):
        y = m.b(F.gelu(m.a(x)))
        return F.silu(y + F.pad(x[:, :, ::2, ::2], (0, 0, 0, 0, 1, 1)))

    return around(run, 6, a=conv(4, 3, stride=2), b=conv(3, 6))


@CASES(refuses={"conv.weight": ".", "b.weight": "."})
def residual_with_zeros_made_in_the_code():
    def run(m, x):
        y = m.b(F.gelu(m.a(x)))
        zeros = x.new_zeros(x.size(0), 2, x.size(2), x.size(3))
        return F.silu(y + torch.cat([x, zeros], 1))

    return around(run, 6, a=conv(4, 3), b=conv(3, 6))


@CASES(splits=("conv.weight",), predicts=True)
def added_to_itself():
    return around(lambda m, x: x + x)


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def difference_of_branches():
    return around(lambda m, x: torch.tanh(x - m.second(x)), second=conv(4, 4))


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def sum_with_a_factor():
    return around(lambda m, x: F.gelu(torch.add(x, m.second(x), alpha=-0.3)), second=conv(4, 4))


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def sum_of_a_list():
    return around(lambda m, x: F.gelu(sum([x, m.second(x), torch.tanh(x)])), second=conv(4, 4))


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def added_in_place():
    def run(m, x):
        y = m.second(x)
        y += x
        return F.silu(y, inplace=True)

    return around(run, second=conv(4, 4))


@CASES(refuses={"conv.weight": "."})
def added_to_the_image():
    """The trunk's channels are the image's: three colours."""
    return Net(lambda m, x: m.fc(F.silu(x + m.conv(x)).mean((2, 3))), conv=conv(3, 3), fc=nn.Linear(3, CLASSES))


@CASES()
def grey_image_added_to_all_channels():
    return Net(lambda m, x: m.fc(F.silu(m.conv(x) + x[:, :1]).mean((2, 3))), conv=conv(3, 4), fc=nn.Linear(4, CLASSES))


@CASES(splits=("a.weight", "b.weight", "c.weight"), predicts=True)
def dense_block():
    def run(m, x):
        a = F.silu(m.a(m.n0(x)))
        b = F.silu(m.b(m.n1(torch.cat([x, a], 1))))
        return m.n2(torch.cat([x, a, b], 1))

    return around(
        lambda m, x: F.silu(m.c(run(m, x))),
        4,
        a=conv(4, 2),
        b=conv(6, 3),
        c=conv(9, 4),
        n0=norm(4),
        n1=norm(6),
        n2=norm(9),
    )


@CASES(splits=("conv.weight", "a.weight", "b.weight", "c.weight"), predicts=True)
def inception_block():
    def run(m, x):
        y = [m.a(x), m.c(F.silu(m.b(x))), F.avg_pool2d(x, 3, 1, 1), x]
        return F.gelu(m.n(torch.cat(y, 1)))

    return around(run, 13, a=conv(4, 2, 1), b=conv(4, 2, 1), c=conv(2, 3, 5), n=norm(13))


@CASES(splits=("conv.weight",), predicts=True)
def joined_with_itself():
    return around(lambda m, x: F.silu(m.n(torch.cat([x, x], 1))), 8, n=norm(8))


@CASES(refuses={"conv.weight": "flip"})
def joined_with_itself_turned_round():
    return around(lambda m, x: torch.cat([x, x.flip(1)], 1), 8)


@CASES()
def joined_then_added_crosswise():
    """Channel c of one branch meets channel c of the other: they are one group."""

    def run(m, x):
        a, b = m.a(x), m.b(x)
        return F.silu(torch.cat([a, b], 1) + torch.cat([b, a], 1))

    return around(run, 6, a=conv(4, 3), b=conv(4, 3))


@CASES()
def joined_then_added_out_of_step():
    """Two and three channels meet three and two: a chain of channels that depend on each other."""

    def run(m, x):
        a, b = m.a(x), m.b(x)
        return F.silu(torch.cat([a, b], 1) + torch.cat([b, a], 1))

    return around(run, 5, a=conv(4, 2), b=conv(4, 3))


@CASES(predicts=True)
def joined_along_the_height():
    return around(lambda m, x: torch.cat([m.a(x), torch.tanh(m.b(x))], 2), 3, a=conv(4, 3), b=conv(4, 3))


@CASES(splits=("conv.weight",), predicts=True)
def joined_along_the_batch():
    def run(m, x):
        y = m.second(torch.cat([x, torch.tanh(x)], 0))
        return F.silu(y[: x.size(0)] + y[x.size(0) :])

    return around(run, 4, second=conv(4, 4))


@CASES(splits=("conv.weight",), predicts=True)
def joined_with_the_image():
    return Net(
        lambda m, x: m.fc(F.silu(m.second(torch.cat([x, F.silu(m.conv(x))], 1))).mean((2, 3))),
        conv=conv(3, 4),
        second=conv(7, 4),
        fc=nn.Linear(4, CLASSES),
    )


@CASES()
def joined_with_coordinates():
    def run(m, x):
        rows = torch.linspace(-1, 1, 8, dtype=x.dtype).reshape(1, 1, 8, 1).expand(x.size(0), 1, 8, 8)
        return F.silu(m.second(torch.cat([x, rows], 1)))

    return around(run, second=conv(5, 4))


@CASES()
def grouped_convolution_over_a_join():
    """Each group reads one branch: the branches' channels have different sizes of group."""

    def run(m, x):
        return F.silu(m.grouped(torch.cat([m.a(x), m.b(x)], 1)))

    return around(run, 6, a=conv(4, 4), b=conv(4, 4), grouped=conv(8, 6, groups=2))


@CASES()
def grouped_convolution_over_an_uneven_join():
    def run(m, x):
        return F.silu(m.grouped(torch.cat([m.a(x), m.b(x)], 1)))

    return around(run, 6, a=conv(4, 3), b=conv(4, 5), grouped=conv(8, 6, groups=2))


@CASES(splits=("conv.weight", "squeeze.weight"), predicts=True)
def squeeze_excite_with_convolutions():
    def run(m, x):
        return x * torch.sigmoid(m.excite(F.silu(m.squeeze(F.adaptive_avg_pool2d(x, 1)))))

    return around(run, squeeze=conv(4, 3, 1), excite=conv(3, 4, 1))


@CASES(splits=("conv.weight", "squeeze.weight"), predicts=True)
def squeeze_excite_with_linear_layers():
    def run(m, x):
        gate = torch.sigmoid(m.excite(F.gelu(m.squeeze(x.mean((2, 3))))))
        return x * gate[:, :, None, None]

    return around(run, squeeze=nn.Linear(4, 3), excite=nn.Linear(3, 4))


@CASES(splits=("conv.weight", "squeeze.weight"), smooth=False)
def squeeze_excite_with_hard_sigmoid():
    def run(m, x):
        return x * m.gate(m.excite(F.relu(m.squeeze(x.mean((2, 3), keepdim=True)))))

    return around(run, squeeze=conv(4, 3, 1), excite=conv(3, 4, 1), gate=nn.Hardsigmoid())


@CASES(splits=("conv.weight",), predicts=True)
def squeeze_excite_written_with_view():
    def run(m, x):
        b, c, _, _ = x.size()
        y = m.excite(F.silu(m.squeeze(x.mean(3).mean(2).view(b, c)))).view(b, c, 1, 1)
        return x * torch.sigmoid(y).expand_as(x)

    return around(run, squeeze=nn.Linear(4, 3), excite=nn.Linear(3, 4))


@CASES(splits=("conv.weight", "squeeze.weight"), predicts=True)
def gate_times_itself_and_trunk():
    """The gate reads what it gates, on a trunk that a residual reads too."""

    def run(m, x):
        y = m.a(x)
        y = y * torch.sigmoid(m.excite(F.silu(m.squeeze(y.mean((2, 3), keepdim=True)))))
        return F.silu(x + y)

    return around(run, a=conv(4, 4), squeeze=conv(4, 2, 1), excite=conv(2, 4, 1))


@CASES(refuses={"conv.weight": "mean|averages|max"}, smooth=False)
def spatial_attention():
    def run(m, x):
        y = torch.cat([x.mean(1, keepdim=True), x.max(1, keepdim=True)[0]], 1)
        return x * torch.sigmoid(m.look(y))

    return around(run, look=conv(2, 1, 5))


@CASES()
def gate_of_one_channel():
    return around(lambda m, x: x * torch.sigmoid(m.gate(x)), gate=conv(4, 1, 1))


@CASES(predicts=True)
def gate_of_one_channel_on_another_branch():
    def run(m, x):
        return m.value(x) * torch.sigmoid(m.gate(x)) + m.bias(x)

    return around(run, 6, value=conv(4, 6), gate=conv(4, 1, 1), bias=conv(4, 1, 1))


@CASES(splits=("conv.weight", "a.weight", "b.weight", "c.weight"), predicts=True)
def trunk_read_at_every_depth():
    def run(m, x):
        y = x + torch.tanh(m.a(x))
        z = y + torch.tanh(m.b(y))
        return torch.cat([x, y, F.silu(m.c(z)), z], 1)

    return around(run, 15, a=conv(4, 4), b=conv(4, 4), c=conv(4, 3))


@CASES(splits=("a.weight",), predicts=True)
def linear_bottlenecks():
    def run(m, x):
        y = m.b(F.silu(m.d(F.silu(m.a(x)))))
        return x + m.n(y)

    return around(run, a=conv(4, 6, 1), d=conv(6, 6, groups=6), b=conv(6, 4, 1), n=norm(4))
