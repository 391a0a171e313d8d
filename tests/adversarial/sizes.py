"""Sizes written into the code, reshapes, windows and pooling: where channels stand, and how many are counted on."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import CLASSES, Cases, Net, around, conv

CASES = Cases()
WRITTEN = "view|reshape|unflatten|size"


def flattened(run, features=64, **layers):
    """A convolution to 4 channels of 4 x 4, `run`, which flattens it, and a linear layer."""
    return Net(
        lambda m, x: m.fc(run(m, F.avg_pool2d(F.silu(m.conv(x)), 2))),
        **{"conv": conv(3, 4), "fc": nn.Linear(features, CLASSES), **layers},
    )


@CASES(refuses={"conv.weight": WRITTEN})
def view_to_a_written_size():
    return flattened(lambda m, x: x.view(-1, 64))


@CASES(refuses={"conv.weight": WRITTEN})
def reshape_to_a_written_size():
    return flattened(lambda m, x: torch.reshape(x, (x.shape[0], 4, 16)).flatten(1))


@CASES(refuses={"conv.weight": WRITTEN})
def reshape_to_an_attribute():
    return flattened(lambda m, x: x.reshape(x.size(0), m.channels, -1).mean(2), 4, channels=4)


@CASES(splits=("conv.weight",), predicts=True)
def view_with_the_batch():
    return flattened(lambda m, x: x.view(x.size(0), -1))


@CASES(splits=("conv.weight",), predicts=True)
def reshape_with_the_shape():
    return flattened(lambda m, x: x.reshape(x.shape[0], x.shape[1] * x.shape[2] * x.shape[3]))


@CASES(splits=("conv.weight",), predicts=True)
def flatten_by_each_name():
    return flattened(lambda m, x: m.flat(torch.flatten(x, 2).unsqueeze(3)), flat=nn.Flatten())


@CASES(splits=("conv.weight",), predicts=True)
def flatten_with_channels_last():
    return flattened(lambda m, x: x.permute(0, 2, 3, 1).flatten(1))


@CASES(splits=("conv.weight",), predicts=True)
def flatten_with_channels_between():
    return flattened(lambda m, x: x.permute(0, 2, 1, 3).reshape(x.size(0), -1))


@CASES(splits=("conv.weight",), predicts=True)
def positions_as_rows():
    def run(m, x):
        b, c, h, w = x.shape
        rows = x.permute(0, 2, 3, 1).reshape(-1, c)
        return m.mix(rows).reshape(b, h, w, 6).mean((1, 2))

    return flattened(run, 6, mix=nn.Linear(4, 6))


@CASES()
def positions_as_rows_of_a_written_size():
    def run(m, x):
        return m.mix(x.permute(0, 2, 3, 1).reshape(-1, 4)).reshape(-1, 4, 4, 6).mean((1, 2))

    return flattened(run, 6, mix=nn.Linear(4, 6))


@CASES(splits=("conv.weight",), predicts=True)
def mean_of_a_view_over_positions():
    return flattened(lambda m, x: x.view(x.size(0), x.size(1), -1).mean(2), 4)


@CASES(splits=("conv.weight",), predicts=True)
def pooled_to_2x2_then_batch_norm():
    return flattened(
        lambda m, x: m.norm(torch.flatten(m.pool(x), 1)), 16, pool=nn.AdaptiveAvgPool2d(2), norm=nn.BatchNorm1d(16)
    )


@CASES(splits=("conv.weight",), predicts=True)
def positions_picked():
    return around(lambda m, x: x[:, :, 1:, ::2] + x[..., :-1, 3, None])


@CASES(predicts=True)
def branches_stacked_and_summed():
    return around(lambda m, x: torch.stack([x, torch.tanh(m.second(x))], 0).sum(0), second=conv(4, 4))


@CASES(predicts=True)
def branches_stacked_beside_the_channels():
    return around(lambda m, x: torch.stack([x, torch.tanh(x)], 2).flatten(1, 2), 8)


@CASES()
def one_channel_flattened():
    """With one channel, whatever is flattened before or after it looks alike."""
    return Net(lambda m, x: m.fc(F.silu(m.conv(x)).flatten(1)), conv=conv(3, 1), fc=nn.Linear(64, CLASSES))


@CASES()
def one_channel_flattened_with_channels_last():
    return Net(
        lambda m, x: m.fc(F.silu(m.conv(x)).permute(0, 2, 3, 1).flatten(1)), conv=conv(3, 1), fc=nn.Linear(64, CLASSES)
    )


@CASES(splits=("conv.weight",), predicts=True)
def one_channel_all_the_way():
    def run(m, x):
        return m.fc(F.silu(m.norm(m.second(F.silu(m.conv(x))))).mean((2, 3)))

    return Net(run, conv=conv(3, 1), second=conv(1, 1), norm=nn.BatchNorm2d(1), fc=nn.Linear(1, CLASSES))


@CASES()
def as_many_channels_as_rows_and_columns():
    """8 channels of 8 x 8: sizes tell nothing about which dimension is which."""

    def run(m, x):
        y = F.silu(m.conv(x)).permute(0, 3, 1, 2)
        return m.fc(m.rows(y).permute(0, 2, 3, 1).reshape(x.size(0), -1))

    return Net(run, conv=conv(3, 8), rows=nn.Linear(8, 8), fc=nn.Linear(512, CLASSES))


@CASES()
def unfolded_windows():
    """im2col: each channel becomes a run of columns."""
    return Net(
        lambda m, x: m.fc(F.gelu(m.mix(F.unfold(F.silu(m.conv(x)), 3).transpose(1, 2))).mean(1)),
        conv=conv(3, 4),
        mix=nn.Linear(36, 6),
        fc=nn.Linear(6, CLASSES),
    )


@CASES()
def folded_windows():
    return around(lambda m, x: F.fold(x.flatten(2)[:, :, :9], (4, 4), (2, 2)), 2, conv=conv(3, 8))


@CASES(splits=("conv.weight", "middle.weight"), predicts=True)
def reflect_and_replicate_padding():
    return around(
        lambda m, x: F.silu(m.middle(F.pad(x, (1, 0, 0, 2), mode="replicate"))),
        conv=nn.Conv2d(3, 4, 3, padding=1, padding_mode="reflect"),
        middle=nn.Conv2d(4, 4, 3, padding="same", padding_mode="circular"),
    )


@CASES(refuses={"conv.weight": "pad"})
def channels_padded():
    return around(lambda m, x: F.pad(x, (0, 0, 0, 0, 1, 2)), 7)


@CASES()
def positions_padded_with_a_number():
    return around(lambda m, x: F.pad(x, (1, 1, 1, 1), value=0.5))


@CASES()
def channels_in_the_lower_triangle():
    return around(lambda m, x: torch.tril(x.transpose(1, 2)).transpose(1, 2))


@CASES(refuses={"conv.weight": "."})
def memory_seen_anew():
    return around(lambda m, x: torch.as_strided(x, (x.size(0), 4, 8, 8), (256, 1, 32, 4)))


@CASES(splits=("conv.weight",), predicts=True)
def dimensions_moved_in_many_ways():
    def run(m, x):
        y = x.movedim(1, -1).unsqueeze(0).squeeze(0).swapaxes(1, 2)
        return y.transpose(-1, -2).permute(0, 2, 3, 1).contiguous()

    return around(run)


@CASES(splits=("a.weight", "b.weight", "up.weight"), predicts=True)
def u_net():
    def run(m, x):
        top = F.silu(m.a(x))
        low = F.silu(m.b(F.avg_pool2d(top, 2)))
        y = torch.cat([top, F.interpolate(low, scale_factor=2, mode="bilinear")], 1)
        return m.fc(F.silu(m.up(y)).mean((2, 3)))

    return Net(run, a=conv(3, 4), b=conv(4, 3), up=conv(7, 5), fc=nn.Linear(5, CLASSES))


@CASES(splits=("conv.weight", "middle.weight"), smooth=False)
def pools_of_every_kind():
    def run(m, x):
        x = F.max_pool2d(x, 3, 2, 1, ceil_mode=True)
        x = m.middle(x)
        return F.adaptive_max_pool2d(x, 2) + F.avg_pool2d(x, 3, 2, ceil_mode=True)

    return around(run, middle=conv(4, 4))


@CASES()
def pool_of_squares():
    return around(lambda m, x: m.pool(x.exp()), pool=nn.LPPool2d(2, 2))


@CASES(smooth=False)
def pool_and_unpool():
    def run(m, x):
        y, where = F.max_pool2d(x, 2, return_indices=True)
        return F.max_unpool2d(y, where, 2)

    return around(run)


@CASES()
def three_dimensional_pool_over_channels():
    return around(lambda m, x: F.avg_pool3d(x.unsqueeze(1), (2, 1, 1)).squeeze(1), 2)


@CASES(smooth=False)
def max_out():
    """The larger of two neighbours among the channels."""
    return around(lambda m, x: F.max_pool3d(x.unsqueeze(1), (2, 1, 1)).squeeze(1), 2)


@CASES()
def grid_sample():
    def run(m, x):
        grid = torch.tanh(m.where(x)).permute(0, 2, 3, 1)
        return F.grid_sample(x, grid, align_corners=False)

    return around(run, where=conv(4, 2))
