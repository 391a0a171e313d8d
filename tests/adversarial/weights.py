"""Weights that are shared, computed, remembered, or used outside the layers that channels are known from."""

from __future__ import annotations

import warnings

import torch
import torch.nn.functional as F
from torch import nn
from torch.nn.utils import parametrizations, parametrize

from adversarial.case import CLASSES, Cases, Net, around, conv, sequences, tokens, vectors

CASES = Cases()


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def convolution_used_twice():
    """Its input and its output are one group."""
    return around(lambda m, x: F.silu(m.second(F.silu(m.second(x)))), second=conv(4, 4))


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def convolution_used_on_two_images():
    return around(lambda m, x: torch.tanh(m.second(x)) * m.second(F.avg_pool2d(x, 3, 1, 1)), second=conv(4, 4))


@CASES(predicts=True)
def classifier_used_on_two_branches():
    def run(m, x):
        x = F.silu(m.conv(x))
        return m.fc(x.mean((2, 3))) + m.fc(F.silu(m.second(x)).mean((2, 3)))

    return Net(run, conv=conv(3, 4), second=conv(4, 4), fc=nn.Linear(4, CLASSES))


@CASES()
def convolution_used_on_the_image_and_on_channels():
    """3 channels in and out: once they are colours."""
    return Net(
        lambda m, x: m.fc(F.silu(m.conv(F.silu(m.conv(x)))).mean((2, 3))), conv=conv(3, 3), fc=nn.Linear(3, CLASSES)
    )


@CASES(predicts=True)
def batch_norm_used_on_two_branches():
    return around(lambda m, x: F.silu(m.n(x)) + torch.tanh(m.n(m.second(x))), second=conv(4, 4), n=nn.BatchNorm2d(4))


@CASES()
def batch_norm_used_on_groups_of_different_producers():
    def run(m, x):
        return torch.cat([m.n(m.a(x)), F.silu(m.n(m.b(x)))], 1)

    return around(run, 6, a=conv(4, 3), b=conv(4, 3), n=nn.BatchNorm2d(3))


@CASES()
def layer_under_two_names():
    layer = conv(4, 4)
    return around(lambda m, x: F.silu(m.b(F.silu(m.a(x)))), a=layer, b=layer)


@CASES(inputs=vectors(6))
def weights_tied():
    net = Net(
        lambda m, x: m.fc(F.silu(m.b(F.silu(m.a(F.silu(m.first(x))))))),
        first=nn.Linear(6, 4),
        a=nn.Linear(4, 4),
        b=nn.Linear(4, 4),
        fc=nn.Linear(4, CLASSES),
    )
    net.b.weight = net.a.weight
    return net


@CASES(inputs=vectors(6))
def bias_tied_to_a_scale():
    net = Net(
        lambda m, x: m.fc(F.silu(m.n(m.first(x)))), first=nn.Linear(6, 4), n=nn.BatchNorm1d(4), fc=nn.Linear(4, CLASSES)
    )
    net.n.weight = net.first.bias
    return net


@CASES(inputs=vectors(6))
def autoencoder_with_tied_weights():
    return Net(
        lambda m, x: F.linear(torch.tanh(m.encode(x)), m.encode.weight.t(), m.bias),
        encode=nn.Linear(6, 4),
        bias=nn.Parameter(torch.zeros(6)),
    )


@CASES(inputs=tokens(6, CLASSES))
def embedding_tied_to_the_classifier():
    net = Net(
        lambda m, x: m.fc(F.gelu(m.mix(m.embed(x))).mean(1)),
        embed=nn.Embedding(CLASSES, 4),
        mix=nn.Linear(4, 4),
        fc=nn.Linear(4, CLASSES, bias=False),
    )
    net.fc.weight = net.embed.weight
    return net


@CASES(inputs=tokens(6, 7))
def embedding():
    return Net(
        lambda m, x: m.fc(F.gelu(m.mix(m.embed(x))).mean(1)),
        embed=nn.Embedding(7, 4),
        mix=nn.Linear(4, 6),
        fc=nn.Linear(6, CLASSES),
    )


@CASES(refuses={"second.weight_v": "."})
def weight_norm_of_old():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        second = nn.utils.weight_norm(conv(4, 4))
    second.weight = second.weight.detach()  # or the fresh module can't be copied
    return around(lambda m, x: F.silu(m.second(x)), second=second)


@CASES()
def weight_norm():
    return around(lambda m, x: F.silu(m.second(x)), second=parametrizations.weight_norm(conv(4, 4)))


@CASES()
def weight_norm_of_the_last_convolution():
    return around(lambda m, x: m.second(x), second=parametrizations.weight_norm(conv(4, 6)), outputs=6)


@CASES()
def spectral_norm():
    return around(lambda m, x: F.silu(m.second(x)), second=parametrizations.spectral_norm(conv(4, 4)))


@CASES()
def spectral_norm_of_old():
    return around(lambda m, x: F.silu(m.second(x)), second=nn.utils.spectral_norm(conv(4, 4)))


class Symmetric(nn.Module):
    """The upper triangle of a matrix, mirrored."""

    def forward(self, weight):
        return weight.triu() + weight.triu(1).transpose(-1, -2)


@CASES(inputs=vectors(6))
def weight_made_symmetric():
    second = nn.Linear(4, 4)
    parametrize.register_parametrization(second, "weight", Symmetric())
    return Net(
        lambda m, x: m.fc(F.silu(m.second(F.silu(m.first(x))))),
        first=nn.Linear(6, 4),
        second=second,
        fc=nn.Linear(4, CLASSES),
    )


@CASES(refuses={"conv.weight": "."})
def weight_standardised_in_forward():
    def run(m, x):
        weight = m.second.weight
        weight = (weight - weight.mean((1, 2, 3), keepdim=True)) / weight.std((1, 2, 3), keepdim=True)
        return F.silu(F.conv2d(x, weight, m.second.bias, padding=1))

    return around(run, second=conv(4, 4))


@CASES(refuses={"conv.weight": "."})
def factor_taken_from_a_weight():
    """The mean of all weights scales the outputs: rows and columns can't change without it."""
    return around(lambda m, x: F.silu(m.second(x)) * m.second.weight.mean(), second=conv(4, 4))


@CASES(splits=("conv.weight", "second.weight"), predicts=True)
def layers_called_as_functions():
    def run(m, x):
        y = F.silu(F.conv2d(x, m.second.weight, m.second.bias, 1, 1))
        return F.batch_norm(y, m.n.running_mean, m.n.running_var, m.n.weight, m.n.bias, m.training)

    return around(run, second=conv(4, 4), n=nn.BatchNorm2d(4))


@CASES(inputs=vectors(6), predicts=True)
def parameters_without_layers():
    def run(m, x):
        x = F.gelu(F.linear(x, m.w1, m.b1))
        return F.linear(x, m.w2)

    return Net(
        run, w1=nn.Parameter(torch.ones(4, 6)), b1=nn.Parameter(torch.ones(4)), w2=nn.Parameter(torch.ones(CLASSES, 4))
    )


@CASES(inputs=vectors(6), predicts=True)
def parameters_in_a_list():
    def run(m, x):
        for w in m.weights:
            x = F.silu(F.linear(x, w))
        return m.fc(x)

    weights = nn.ParameterList([nn.Parameter(torch.ones(4, 6)), nn.Parameter(torch.ones(3, 4))])
    return Net(run, weights=weights, fc=nn.Linear(3, CLASSES))


@CASES()
def kernel_made_by_the_network():
    """Dynamic convolution: a linear layer writes the weights of a convolution."""

    def run(m, x):
        kernel = m.write(x.mean((0, 2, 3))).reshape(6, 4, 1, 1)
        return F.silu(F.conv2d(x, kernel))

    return around(run, 6, write=nn.Linear(4, 24))


@CASES(predicts=True)
def scale_for_each_channel():
    def run(m, x):
        y = (m.second(x).permute(0, 2, 3, 1) * m.last).permute(0, 3, 1, 2)
        return x + y * m.first + torch.tanh(y * m.middle) * m.scalar

    parameters = {"last": (4,), "first": (4, 1, 1), "middle": (1, 4, 1, 1), "scalar": ()}
    return around(
        run, second=conv(4, 4), **{name: nn.Parameter(torch.ones(shape)) for name, shape in parameters.items()}
    )


@CASES(splits=("conv.weight",), predicts=True)
def shift_for_each_channel():
    return around(lambda m, x: F.silu(x + m.shift), shift=nn.Parameter(torch.ones(4, 1, 1)))


@CASES()
def parameter_of_channels_and_positions():
    return around(
        lambda m, x: F.silu(x * m.mask + m.shift),
        mask=nn.Parameter(torch.ones(4, 8, 8)),
        shift=nn.Parameter(torch.ones(8)),
    )


@CASES()
def parameter_as_long_as_channels_but_over_columns():
    """8 channels, 8 columns: the parameter runs along the columns."""
    return around(lambda m, x: F.silu(x * m.columns), 8, conv=conv(3, 8), columns=nn.Parameter(torch.ones(8)))


@CASES()
def parameter_used_for_channels_and_for_columns():
    def run(m, x):
        return F.silu(x * m.both + m.both[:, None, None])

    return around(run, 8, conv=conv(3, 8), both=nn.Parameter(torch.ones(8)))


@CASES()
def parameter_used_for_two_groups():
    def run(m, x):
        return F.silu(m.second(F.silu(x * m.scale)) * m.scale)

    return around(run, second=conv(4, 4), scale=nn.Parameter(torch.ones(4, 1, 1)))


@CASES()
def buffer_for_each_channel():
    net = around(lambda m, x: F.silu(x * m.mask))
    net.register_buffer("mask", torch.ones(1, 4, 1, 1))
    return net


@CASES()
def plain_tensor_for_each_channel():
    return around(
        lambda m, x: F.silu(x * m.mask), mask=torch.tensor([0.3, -1.0, 0.7, 2.0], dtype=torch.float64).view(4, 1, 1)
    )


@CASES()
def plain_number_in_an_array():
    return around(lambda m, x: F.silu(x * m.mask), mask=torch.tensor(0.7, dtype=torch.float64))


@CASES(refuses={"conv.weight": "."})
def tensor_of_channels_made_in_the_code():
    return around(lambda m, x: F.silu(x * torch.arange(1.0, 5.0, dtype=x.dtype).view(4, 1, 1)))


@CASES(smooth=False)
def parametric_relu():
    return around(lambda m, x: m.one(x) + m.all(x), one=nn.PReLU(), all=nn.PReLU(4))


@CASES(inputs=sequences(6, 8), splits=("up.weight",), predicts=True)
def class_token_and_positions():
    def run(m, x):
        token = m.token.expand(x.size(0), -1, -1)
        y = torch.cat([token, x], 1) + m.position
        return m.fc(m.down(F.gelu(m.up(y)))[:, 0])

    return Net(
        run,
        token=nn.Parameter(torch.ones(1, 1, 8)),
        position=nn.Parameter(torch.ones(1, 7, 8)),
        up=nn.Linear(8, 5),
        down=nn.Linear(5, 6),
        fc=nn.Linear(6, CLASSES),
    )


@CASES()
def patches_with_positions():
    """The embedding's channels meet a parameter that runs along them."""

    def run(m, x):
        y = m.patch(x).flatten(2).transpose(1, 2) + m.position
        return m.fc(F.gelu(m.up(y)).mean(1))

    return Net(
        run,
        patch=nn.Conv2d(3, 6, 4, 4),
        position=nn.Parameter(torch.ones(1, 4, 6)),
        up=nn.Linear(6, 5),
        fc=nn.Linear(5, CLASSES),
    )


@CASES(splits=("conv.weight",), predicts=True)
def parameters_that_do_not_train():
    net = around(lambda m, x: F.silu(m.n(m.second(x))), second=conv(4, 4), n=nn.BatchNorm2d(4))
    net.conv.weight.requires_grad_(False)
    net.n.requires_grad_(False)
    return net


@CASES(splits=("a.weight", "b.weight"), predicts=True)
def consumer_shared_by_two_groups():
    """One convolution reads both branches: channel c of one and channel c of the other share a column."""
    return around(
        lambda m, x: m.read(F.silu(m.a(x))) * torch.tanh(m.read(torch.tanh(m.b(x)))),
        a=conv(4, 3),
        b=conv(4, 3, 1),
        read=conv(3, 4),
    )


@CASES()
def blur_with_a_fixed_kernel():
    """Anti-aliasing: a depthwise convolution whose kernel is a buffer, repeated for as many channels as there are."""

    def run(m, x):
        return F.silu(F.conv2d(x, m.kernel.repeat(x.size(1), 1, 1, 1), stride=2, padding=1, groups=x.size(1)))

    net = around(run)
    net.register_buffer("kernel", torch.ones(1, 1, 3, 3))
    return net


@CASES()
def blur_with_a_kernel_for_each_channel():
    def run(m, x):
        return F.silu(F.conv2d(x, m.kernel, stride=2, padding=1, groups=x.shape[1]))

    net = around(run)
    net.register_buffer("kernel", torch.ones(4, 1, 3, 3))
    return net
