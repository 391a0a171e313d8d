"""Python around the layers: attributes read in forward, hooks, modes, in-place work, other outputs than one tensor.

The module runs live after a split, so what forward reads from its layers then is the new width.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import CLASSES, Cases, Net, around, conv

CASES = Cases()


@CASES()
def features_read_from_a_layer():
    """The size follows the layer's own attribute, so a split may go well."""
    return Net(
        lambda m, x: m.fc(F.silu(m.n(m.conv(x))).mean(3).view(-1, m.n.num_features * 8)),
        conv=conv(3, 4),
        n=nn.BatchNorm2d(4),
        fc=nn.Linear(32, CLASSES),
    )


@CASES(refuses={"conv.weight": "."})
def scale_computed_from_a_width():
    """Divided by the square root of the number of channels: it changes when channels are added."""
    return around(lambda m, x: x / math.sqrt(m.conv.out_channels))


@CASES(refuses={"conv.weight": "."})
def scale_computed_from_a_shape():
    return around(lambda m, x: x * x.size(1) ** -0.5)


@CASES(refuses={"conv.weight": "."})
def mean_computed_by_hand():
    return around(lambda m, x: x - x.sum((1, 2, 3), keepdim=True) / x[0].numel())


@CASES()
def mean_over_positions_computed_by_hand():
    return around(lambda m, x: torch.tanh(x - x.sum((2, 3), keepdim=True) / (x.size(2) * x.size(3))))


@CASES(refuses={"conv.weight": "."})
def branch_chosen_by_a_width():
    """Another path is taken once the layer has grown."""

    return around(lambda m, x: torch.tanh(x) if m.conv.out_channels == 4 else F.silu(x))


@CASES()
def branch_chosen_by_a_shape():
    return around(lambda m, x: torch.tanh(x) if x.shape[1] == 4 else F.silu(x))


@CASES()
def branch_chosen_by_a_value():
    return around(lambda m, x: torch.tanh(x) if x.sum() > 0 else F.silu(x))


@CASES()
def shape_asserted():
    def run(m, x):
        assert x.shape[1] == 4, x.shape
        return F.silu(x)

    return around(run)


@CASES()
def shape_asserted_by_torch():
    def run(m, x):
        torch._assert(x.shape[1] == 4, "four channels expected")
        return F.silu(x)

    return around(run)


@CASES(refuses={"conv.weight": "."})
def channels_weighted_by_their_number():
    """The weights are made anew at each width."""
    return around(lambda m, x: x * torch.arange(x.size(1), dtype=x.dtype).reshape(1, -1, 1, 1))


@CASES()
def noise_like_the_channels():
    return around(lambda m, x: x + torch.ones_like(x) * 0.3 + torch.zeros(x.shape, dtype=x.dtype))


@CASES()
def sizes_in_a_list():
    """Widths of the pieces, remembered when the model was built."""

    def run(m, x):
        pieces = torch.split(torch.cat([F.silu(m.a(x)), torch.tanh(m.b(x))], 1), m.sizes, 1)
        return pieces[0] * m.c(pieces[1])

    return around(run, 2, a=conv(4, 2), b=conv(4, 3), c=conv(3, 2, 1), sizes=[2, 3])


@CASES()
def sizes_read_from_layers():
    def run(m, x):
        y = torch.cat([F.silu(m.a(x)), torch.tanh(m.b(x))], 1)
        first, second = torch.split(y, [m.a.out_channels, m.b.out_channels], 1)
        return first * m.c(second)

    return around(run, 2, a=conv(4, 2), b=conv(4, 3), c=conv(3, 2, 1))


@CASES(predicts=True)
def auxiliary_output_in_training():
    def run(m, x):
        x = F.silu(m.conv(x))
        y = m.fc(F.silu(m.second(x)).mean((2, 3)))
        return (y, m.aux(x.mean((2, 3)))) if m.training else y

    return Net(run, conv=conv(3, 4), second=conv(4, 4), fc=nn.Linear(4, CLASSES), aux=nn.Linear(4, CLASSES))


@CASES()
def channels_turned_round_in_training():
    """Eval mode looks harmless; training orders the channels."""
    return around(lambda m, x: x + x.flip(1) if m.training else x)


@CASES()
def noise_in_training():
    return around(lambda m, x: x + torch.randn_like(x) if m.training else x)


@CASES()
def other_layer_in_training():
    return around(lambda m, x: m.a(x) if m.training else m.b(x), a=conv(4, 4), b=conv(4, 4))


@CASES(refuses={"a.weight": "."})
def dropout_that_never_sleeps():
    """Random in eval mode too: no function to keep. Here with probability 0, so that it can be judged."""
    return around(lambda m, x: F.dropout(m.a(x), 0.0, training=True)[:, :2], 2, a=conv(4, 4))


@CASES(predicts=True)
def outputs_in_a_tuple():
    return Net(
        lambda m, x: (m.fc(F.silu(m.conv(x)).mean((2, 3))), m.second(x).mean((2, 3))),
        conv=conv(3, 4),
        second=conv(3, 4),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(refuses={"conv.weight": "output"})
def outputs_in_a_dictionary():
    def run(m, x):
        features = F.silu(m.conv(x))
        return {"logits": m.fc(features.mean((2, 3))), "features": features}

    return Net(run, conv=conv(3, 4), fc=nn.Linear(4, CLASSES))


@CASES(refuses={"conv.weight": "output"})
def channels_are_the_output():
    return Net(lambda m, x: torch.sigmoid(m.conv(x)), conv=conv(3, 1))


@CASES()
def feature_pyramid():
    def run(m, x):
        a = F.silu(m.a(x))
        b = F.silu(m.b(a))
        y = m.lateral(a) + F.interpolate(m.top(b), size=a.shape[-2:])
        return [m.out(y), b.mean((2, 3))]

    return Net(run, a=conv(3, 4), b=conv(4, 6, stride=2), top=conv(6, 5, 1), lateral=conv(4, 5, 1), out=conv(5, 2))


@CASES()
def output_of_numbers_and_tensors():
    return Net(
        lambda m, x: (m.fc(F.silu(m.conv(x)).mean((2, 3))), x.size(0), None), conv=conv(3, 4), fc=nn.Linear(4, CLASSES)
    )


@CASES(splits=("first.weight", "blocks.0.0.weight", "blocks.1.0.weight"), predicts=True)
def loops_and_nests():
    def run(m, x):
        x = m.first(x)
        for block in m.blocks:
            x = x + block(x)
        return m.head["fc"](m.head["pool"](x).flatten(1))

    blocks = nn.ModuleList([nn.Sequential(conv(4, 3), nn.BatchNorm2d(3), nn.GELU(), conv(3, 4)) for _ in range(2)])
    head = nn.ModuleDict({"pool": nn.AdaptiveAvgPool2d(1), "fc": nn.Linear(4, CLASSES)})
    return Net(run, first=conv(3, 4), blocks=blocks, head=head)


@CASES()
def inference_only_block():
    def run(m, x):
        with torch.no_grad():
            y = m.frozen(x)
        return x + y

    return around(run, frozen=conv(4, 4))


@CASES()
def gradient_stopped():
    return around(lambda m, x: x + m.second(x.detach()), second=conv(4, 4))


@CASES(smooth=False)
def cast_to_single_precision():
    return around(lambda m, x: torch.tanh(x.float()).double())


@CASES()
def complex_numbers():
    return around(lambda m, x: torch.fft.fft2(x).abs() / 8)


@CASES(refuses={"conv.weight": "fft"})
def fourier_transform_over_channels():
    return around(lambda m, x: torch.fft.fft(x, dim=1).real)


@CASES(idle=("unused.weight", "unused.bias"))
def layer_that_is_never_used():
    return around(lambda m, x: torch.tanh(x), unused=conv(4, 4))


@CASES()
def layer_used_for_its_weight_only():
    """The penalty a loss reads: the weights' squares leave as a second output."""
    return Net(
        lambda m, x: (m.fc(F.silu(m.conv(x)).mean((2, 3))), m.conv.weight.square().sum()),
        conv=conv(3, 4),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(splits=("conv.weight", "a.weight"), predicts=True)
def bias_of_another_layer():
    def run(m, x):
        return F.silu(F.conv2d(x, m.a.weight, m.b.bias, padding=1) + m.b(x))

    return around(run, a=conv(4, 4, bias=False), b=conv(4, 4))


@CASES()
def autocast_inside():
    def run(m, x):
        with torch.autocast("cpu", torch.bfloat16):
            y = F.conv2d(x.float(), m.second.weight.float(), m.second.bias.float(), padding=1)
        return torch.tanh(y.double())

    return around(run, second=conv(4, 4))


@CASES()
def size_written_in_training():
    return around(lambda m, x: torch.tanh(x.view(-1, 4, 64).view(-1, 4, 8, 8) if m.training else x))


@CASES(refuses={"conv.weight": "."})
def last_channel_first_in_training():
    return around(lambda m, x: x * x[:, -1:] if m.training else x)


@CASES(traced=1)
def everything_squeezed():
    """One image: squeeze takes the batch away too."""
    return Net(
        lambda m, x: m.fc(F.adaptive_avg_pool2d(F.silu(m.conv(x)), 1).squeeze()),
        conv=conv(3, 4),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(traced=1)
def one_image():
    return around(
        lambda m, x: torch.tanh(m.second(x).reshape(x.size(0), -1).view(-1, m.width, 8, 8)), second=conv(4, 4), width=4
    )


@CASES(traced=4)
def as_many_images_as_channels():
    def run(m, x):
        return F.silu(m.second(x.transpose(0, 1).transpose(1, 0)))

    return around(run, second=conv(4, 4))


@CASES(traced=4, refuses={"conv.weight": "."})
def images_and_channels_exchanged():
    """With as many images as channels, the shapes look right."""
    return around(lambda m, x: x + x[:4].transpose(0, 1).mean(0, keepdim=True) * 0.1)


@CASES(traced=4)
def flattened_with_the_batch_in_the_code():
    return Net(lambda m, x: m.fc(F.silu(m.conv(x)).mean(3).reshape(4, -1)), conv=conv(3, 4), fc=nn.Linear(32, CLASSES))


@CASES()
def width_read_in_training():
    """Eval mode never reads it."""
    return around(lambda m, x: torch.tanh(x / m.conv.out_channels if m.training else x))


@CASES(refuses={"conv.weight": "."})
def as_many_rows_as_channels():
    return around(lambda m, x: F.interpolate(x, size=x.shape[1], mode="bilinear").square())


@CASES()
def norm_kept_in_training_mode():
    """Statistics of the batch, in eval mode too."""

    def run(m, x):
        m.n.train()
        return F.silu(m.n(x))

    return around(run, n=nn.BatchNorm2d(4, track_running_stats=False))
