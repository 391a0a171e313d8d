"""Channels taken apart and put elsewhere: by number, in pieces, shuffled, repeated, as a batch, as positions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import CLASSES, Cases, Net, around, conv

CASES = Cases()
PICKED = "getitem|slice|number|index|narrow|select|size"


@CASES(refuses={"conv.weight": PICKED})
def first_channels():
    return around(lambda m, x: x[:, :2], outputs=2)


@CASES(refuses={"conv.weight": PICKED})
def every_second_channel():
    return around(lambda m, x: x[:, ::2] - x[:, 1::2], outputs=2)


@CASES(refuses={"conv.weight": PICKED})
def one_channel_by_number():
    return around(lambda m, x: x * x[:, 2].unsqueeze(1))


@CASES(refuses={"conv.weight": PICKED})
def last_channel():
    return around(lambda m, x: x[:, -1:], outputs=1)


@CASES()
def all_but_a_written_number_of_channels():
    return around(lambda m, x: torch.cat([x[:, :4], x[:, 4:]], 1))


@CASES(refuses={"conv.weight": PICKED})
def channels_by_a_list_of_numbers():
    return around(lambda m, x: x[:, [2, 0, 3, 1]])


@CASES(refuses={"conv.weight": PICKED})
def channels_by_a_buffer_of_numbers():
    net = around(lambda m, x: torch.index_select(x, 1, m.order))
    net.register_buffer("order", torch.tensor([2, 0, 3, 1]))
    return net


@CASES(refuses={"conv.weight": "gather|expand"})
def channels_gathered():
    net = around(lambda m, x: torch.gather(x, 1, m.order.expand(x.size(0), 4, 8, 8)))
    net.register_buffer("order", torch.tensor([2, 0, 3, 1]).reshape(1, 4, 1, 1))
    return net


@CASES(refuses={"conv.weight": PICKED})
def channels_narrowed():
    return around(lambda m, x: x.narrow(1, 1, 2), outputs=2)


@CASES(refuses={"conv.weight": "split|size"})
def split_by_written_sizes():
    def run(m, x):
        a, b = torch.split(x, [1, 3], dim=1)
        return a * b

    return around(run, outputs=3)


@CASES(refuses={"conv.weight": "split|size"})
def split_into_pieces_of_a_written_size():
    return around(lambda m, x: torch.split(x, 2, dim=1)[0] + x.split(2, 1)[1], outputs=2)


@CASES(splits=("conv.weight",), predicts=True)
def halves_gate_each_other():
    def run(m, x):
        a, b = x.chunk(2, dim=1)
        return a * torch.sigmoid(b)

    return around(run, outputs=2)


@CASES(predicts=True)
def gated_linear_unit():
    return around(lambda m, x: F.glu(x, dim=1), outputs=2)


@CASES(predicts=True)
def three_pieces():
    def run(m, x):
        a, b, c = x.chunk(3, dim=1)
        return a * b + c

    return around(run, 2, conv=conv(3, 6))


@CASES()
def three_pieces_of_unequal_size():
    def run(m, x):
        a, b, c = x.chunk(3, dim=1)
        return torch.cat([a * b, c], 1)

    return around(run, 3, conv=conv(3, 5))


@CASES()
def tensor_split_of_an_odd_number():
    return around(lambda m, x: torch.cat(torch.tensor_split(x, 2, dim=1)[::-1], 1), 5, conv=conv(3, 5))


@CASES(predicts=True)
def half_goes_on_half_stays():
    """Cross-stage partial block: one half is convolved, then joined with the other."""

    def run(m, x):
        a, b = x.chunk(2, 1)
        return torch.cat([a, F.silu(m.inner(b))], 1)

    return around(run, 5, inner=conv(2, 3))


@CASES()
def channel_shuffle():
    def run(m, x):
        b, c, h, w = x.shape
        y = x.view(b, 2, c // 2, h, w).transpose(1, 2).contiguous().view(b, c, h, w)
        return m.grouped(y)

    return around(run, 6, grouped=conv(4, 6, groups=2))


@CASES(splits=("conv.weight",), predicts=True)
def channel_shuffle_before_a_convolution():
    def run(m, x):
        b, c, h, w = x.shape
        y = x.view(b, 2, c // 2, h, w).transpose(1, 2).reshape(b, -1, h, w)
        return F.silu(m.second(y))

    return around(run, 6, second=conv(4, 6))


@CASES()
def channel_shuffle_of_torch():
    return around(lambda m, x: m.shuffle(x), shuffle=nn.ChannelShuffle(2))


@CASES()
def channel_shuffle_with_a_fixed_order_inside():
    """Two channels a group are written, groups follow: the other way round from the usual shuffle."""

    def run(m, x):
        b, c, h, w = x.shape
        return x.view(b, c // 2, 2, h, w).transpose(1, 2).reshape(b, c, h, w)

    return around(run)


@CASES()
def pixel_shuffle():
    return around(lambda m, x: m.shuffle(x), 2, conv=conv(3, 8), shuffle=nn.PixelShuffle(2))


@CASES(predicts=True)
def pixel_unshuffle():
    return around(lambda m, x: F.pixel_unshuffle(x, 2), 16)


@CASES()
def space_to_depth_by_hand():
    def run(m, x):
        b, c, h, w = x.shape
        y = x.reshape(b, c, h // 2, 2, w // 2, 2).permute(0, 3, 5, 1, 2, 4)
        return y.reshape(b, c * 4, h // 2, w // 2)

    return around(run, 16)


@CASES(refuses={"conv.weight": "."})
def channels_as_a_batch():
    def run(m, x):
        b, c, h, w = x.shape
        return m.each(x.reshape(b * c, 1, h, w)).mean(1).reshape(b, c, h, w).cumsum(1)

    return around(run, each=conv(1, 2))


@CASES()
def channels_as_a_batch_and_back():
    def run(m, x):
        b, c, h, w = x.shape
        return F.silu(m.each(x.reshape(b * c, 1, h, w))).reshape(b, c, h, w)

    return around(run, each=conv(1, 1))


@CASES()
def batch_and_channels_swapped():
    return around(
        lambda m, x: m.each(x.transpose(0, 1)[:, :1]).transpose(0, 1).expand(x.size(0), -1, -1, -1), 4, each=conv(1, 1)
    )


@CASES()
def channels_as_a_batch_of_a_written_size():
    def run(m, x):
        return F.silu(m.each(x.reshape(-1, 1, 8, 8))).reshape(-1, 4, 8, 8)

    return around(run, each=conv(1, 1))


@CASES(refuses={"conv.weight": "."})
def channels_as_positions_with_positions_as_channels():
    return Net(
        lambda m, x: m.fc(m.slide(F.silu(m.conv(x)).flatten(2).transpose(1, 2)).mean(2)),
        conv=conv(3, 4),
        slide=nn.Conv1d(64, 3, 3),
        fc=nn.Linear(3, CLASSES),
    )


@CASES()
def positions_mixed_channel_by_channel():
    """A linear layer over positions: channels pass side by side, each alone."""
    return around(lambda m, x: m.mix(x.flatten(2)).unflatten(2, (3, 2)), mix=nn.Linear(64, 6))


@CASES(refuses={"conv.weight": "."})
def channels_as_positions_of_a_convolution():
    """Efficient channel attention: a convolution slides over the channels."""

    def run(m, x):
        y = m.slide(x.mean((2, 3)).unsqueeze(1)).transpose(1, 2).unsqueeze(-1)
        return x * torch.sigmoid(y)

    return around(run, slide=nn.Conv1d(1, 1, 3, padding=1))


@CASES(refuses={"conv.weight": "."})
def image_and_channels_transposed():
    """Channels become rows of an image that a 3 x 3 kernel reads."""
    return around(lambda m, x: m.second(x.transpose(1, 2)), 3, second=conv(8, 3))


@CASES()
def repeated_channels():
    return around(lambda m, x: x.repeat(1, 2, 1, 1), 8)


@CASES()
def channels_repeated_one_by_one():
    return around(lambda m, x: x.repeat_interleave(2, dim=1), 8)


@CASES()
def channels_tiled():
    return around(lambda m, x: torch.tile(x, (1, 3, 1, 1)), 12)


@CASES(refuses={"conv.weight": "."})
def one_channel_expanded():
    return around(lambda m, x: x.expand(-1, 4, -1, -1), 4, conv=conv(3, 1))


@CASES(refuses={"conv.weight": "unbind"})
def channels_unbound_and_stacked():
    return around(lambda m, x: torch.stack([x.unbind(1)[0], x.unbind(1)[3]], 1), 2)


@CASES(refuses={"conv.weight": "."})
def channels_unbound_and_joined_backwards():
    return around(lambda m, x: torch.stack(x.unbind(1)[::-1], 1))


@CASES(refuses={"conv.weight": "."})
def channels_iterated():
    def run(m, x):
        return torch.stack([x[:, c] * (c + 1) for c in range(4)], 1)

    return around(run)
