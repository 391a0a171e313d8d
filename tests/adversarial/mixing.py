"""Operations that compare, order, count or multiply channels with each other, so that a copy would be seen."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn

from adversarial.case import CLASSES, Cases, Net, around, conv, sequences, vectors

CASES = Cases()


@CASES(refuses={"conv.weight": "softmax"})
def softmax_over_channels():
    return around(lambda m, x: torch.softmax(x, 1))


@CASES(refuses={"conv.weight": "softmax|gate"})
def softmax_module_as_gate():
    return around(lambda m, x: x * m.gate(x), gate=nn.Softmax(dim=1))


@CASES(refuses={"conv.weight": "softmax"})
def log_softmax_over_channels():
    return around(lambda m, x: F.log_softmax(x, dim=-3))


@CASES(refuses={"conv.weight": "softmin|softmax"})
def softmin_over_channels():
    return around(lambda m, x: F.softmin(x, dim=1))


@CASES(predicts=True)
def softmax_over_positions():
    return around(lambda m, x: x * torch.softmax(x.flatten(2), -1).unflatten(-1, (8, 8)))


@CASES(refuses={"conv.weight": "(?i)layer.?norm|norm"})
def layer_norm_over_channels():
    return around(lambda m, x: m.norm(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2), norm=nn.LayerNorm(4))


@CASES(refuses={"conv.weight": "(?i)layer.?norm|norm"})
def layer_norm_over_channels_and_positions():
    return around(lambda m, x: m.norm(x), norm=nn.LayerNorm([4, 8, 8]))


@CASES(predicts=True)
def layer_norm_over_positions():
    return around(lambda m, x: m.norm(x), norm=nn.LayerNorm(8))


@CASES(refuses={"conv.weight": "layer.?norm"})
def functional_layer_norm_of_fixed_size():
    return around(lambda m, x: F.layer_norm(x, (4, 8, 8)))


@CASES(refuses={"conv.weight": "(?i)group.?norm|norm"})
def group_norm():
    return around(lambda m, x: m.norm(x), norm=nn.GroupNorm(2, 4))


@CASES(refuses={"conv.weight": "(?i)group.?norm|norm"})
def group_norm_of_one_group():
    return around(lambda m, x: m.norm(x), norm=nn.GroupNorm(1, 4))


@CASES()
def group_norm_of_one_channel_a_group():
    return around(lambda m, x: torch.tanh(m.norm(x)), norm=nn.GroupNorm(4, 4))


@CASES(predicts=True)
def instance_norm():
    return around(lambda m, x: torch.tanh(m.norm(x)), norm=nn.InstanceNorm2d(4))


@CASES(predicts=True)
def instance_norm_with_scale_and_statistics():
    return around(lambda m, x: torch.tanh(m.norm(x)), norm=nn.InstanceNorm2d(4, affine=True, track_running_stats=True))


@CASES(refuses={"conv.weight": "normalize|norm"})
def normalised_to_length_one():
    return around(lambda m, x: F.normalize(x, dim=1))


@CASES(refuses={"conv.weight": "norm"})
def divided_by_its_norm():
    return around(lambda m, x: x / x.norm(dim=1, keepdim=True))


@CASES(refuses={"conv.weight": "mean|averages"})
def root_mean_square_norm():
    return around(lambda m, x: x * torch.rsqrt(x.square().mean(1, keepdim=True) + 1e-3))


@CASES(refuses={"conv.weight": "(?i)response|norm"})
def local_response_norm():
    return around(lambda m, x: m.norm(x), norm=nn.LocalResponseNorm(3, alpha=0.5))


@CASES(refuses={"conv.weight": "(?i)norm|statistics"})
def batch_norm_without_statistics():
    return around(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(4, track_running_stats=False))


@CASES(splits=("conv.weight",), predicts=True)
def batch_norm_without_scale():
    return around(lambda m, x: m.norm(x), norm=nn.BatchNorm2d(4, affine=False))


@CASES(refuses={"conv.weight": "cumsum"})
def running_sum_over_channels():
    return around(lambda m, x: torch.cumsum(x, 1))


@CASES(predicts=True)
def running_sum_over_positions():
    return around(lambda m, x: x.cumsum(-1))


@CASES(refuses={"conv.weight": "flip"})
def channels_flipped():
    return around(lambda m, x: x + torch.flip(x, [1]))


@CASES(refuses={"conv.weight": "roll"})
def channels_rolled():
    return around(lambda m, x: x * x.roll(1, dims=1))


@CASES(refuses={"conv.weight": "roll"})
def everything_rolled():
    return around(lambda m, x: x + x.roll(3))


@CASES(splits=("conv.weight",), predicts=True)
def positions_flipped_and_rolled():
    return around(lambda m, x: x.flip(2).roll((1, 2), dims=(2, 3)))


@CASES(refuses={"conv.weight": "sort|getitem"}, smooth=False)
def channels_sorted():
    return around(lambda m, x: x + torch.sort(x, dim=1)[0])


@CASES(refuses={"conv.weight": "topk"}, smooth=False)
def largest_channels():
    return around(lambda m, x: x.topk(2, dim=1).values, outputs=2)


@CASES(refuses={"conv.weight": "argmax"}, smooth=False)
def number_of_the_largest_channel():
    return around(lambda m, x: x * x.argmax(1, keepdim=True))


@CASES(refuses={"conv.weight": "mean|averages"})
def mean_over_channels():
    return around(lambda m, x: x.mean(1, keepdim=True), outputs=1)


@CASES(refuses={"conv.weight": "mean|averages"})
def mean_over_everything():
    return around(lambda m, x: x - x.mean())


@CASES(refuses={"conv.weight": "sum"})
def sum_over_channels():
    return around(lambda m, x: x.sum(1, keepdim=True), outputs=1)


@CASES(refuses={"conv.weight": "max"}, smooth=False)
def largest_over_channels():
    return around(lambda m, x: x.max(1, keepdim=True)[0], outputs=1)


@CASES(refuses={"conv.weight": "amax|sub"}, smooth=False)
def centred_on_its_largest_channel():
    return around(lambda m, x: x - x.amax((1, 2, 3), keepdim=True))


@CASES(refuses={"conv.weight": "std"})
def divided_by_its_deviation():
    return around(lambda m, x: x / x.std(1, keepdim=True))


@CASES(refuses={"conv.weight": "logsumexp"})
def logarithm_of_summed_exponentials():
    return around(lambda m, x: torch.logsumexp(x, 1, keepdim=True), outputs=1)


@CASES(refuses={"conv.weight": "einsum"})
def gram_matrix_by_einsum():
    return Net(
        lambda m, x: m.fc(torch.einsum("bchw,bdhw->bcd", m.conv(x), m.conv(x)).flatten(1)),
        conv=conv(3, 4),
        fc=nn.Linear(16, CLASSES),
    )


@CASES(refuses={"conv.weight": "matmul|bmm|@|bilinear"})
def bilinear_pooling():
    def run(m, x):
        y = m.conv(x).flatten(2)
        return m.fc((y @ y.transpose(1, 2)).flatten(1))

    return Net(run, conv=conv(3, 4), fc=nn.Linear(16, CLASSES))


@CASES(refuses={"conv.weight": "."})
def outer_product():
    def run(m, x):
        y = F.silu(m.conv(x)).mean((2, 3))
        return m.fc((y.unsqueeze(2) * y.unsqueeze(1)).flatten(1))

    return Net(run, conv=conv(3, 4), fc=nn.Linear(16, CLASSES))


@CASES()
def einsum_as_a_linear_layer():
    return around(lambda m, x: torch.einsum("bchw,dc->bdhw", x, m.mix), mix=nn.Parameter(torch.ones(4, 4)))


@CASES()
def matmul_as_a_linear_layer():
    return Net(
        lambda m, x: m.fc(F.gelu(x.flatten(1) @ m.mix)), mix=nn.Parameter(torch.ones(192, 6)), fc=nn.Linear(6, CLASSES)
    )


@CASES(refuses={"q.weight": ".", "k.weight": "."})
def attention_between_channels():
    """Cross-covariance attention: channels are the tokens."""

    def run(m, x):
        q, k, v = (layer(x).flatten(2) for layer in (m.q, m.k, m.v))
        weights = torch.softmax(q @ k.transpose(1, 2), dim=-1)
        return m.fc((weights @ v).mean(2))

    return Net(run, q=conv(3, 4), k=conv(3, 4), v=conv(3, 4), fc=nn.Linear(4, CLASSES))


@CASES(refuses={"q.weight": "."}, inputs=sequences(6, 8), idle=("k.bias",))
def attention_of_one_head():
    def run(m, x):
        weights = torch.softmax(m.q(x) @ m.k(x).transpose(1, 2) * 8**-0.5, dim=-1)
        return m.fc((weights @ m.v(x)).mean(1))

    return Net(run, q=nn.Linear(8, 4), k=nn.Linear(8, 4), v=nn.Linear(8, 4), fc=nn.Linear(4, CLASSES))


@CASES(inputs=sequences(6, 8), idle=("k.bias",))
def scaled_dot_product_attention():
    def run(m, x):
        return m.fc(F.scaled_dot_product_attention(m.q(x), m.k(x), m.v(x)).mean(1))

    return Net(run, q=nn.Linear(8, 4), k=nn.Linear(8, 4), v=nn.Linear(8, 4), fc=nn.Linear(4, CLASSES))


@CASES(inputs=sequences(6, 8))
def multihead_attention():
    return Net(
        lambda m, x: m.out(m.attention(m.fc(x), m.fc(x), m.fc(x))[0].mean(1)),
        fc=nn.Linear(8, 4),
        attention=nn.MultiheadAttention(4, 2, batch_first=True),
        out=nn.Linear(4, CLASSES),
    )


@CASES(inputs=sequences(6, 8), splits=("up.weight",), predicts=True)
def transformer_block():
    def run(m, x):
        y = m.norm1(x)
        x = x + m.attention(y, y, y, need_weights=False)[0]
        x = x + m.down(F.gelu(m.up(m.norm2(x))))
        return m.fc(x.mean(1))

    return Net(
        run,
        norm1=nn.LayerNorm(8),
        attention=nn.MultiheadAttention(8, 2, batch_first=True),
        norm2=nn.LayerNorm(8),
        up=nn.Linear(8, 12),
        down=nn.Linear(12, 8),
        fc=nn.Linear(8, CLASSES),
    )


@CASES(inputs=sequences(6, 8), smooth=False)
def transformer_encoder_layer_of_torch():
    return Net(
        lambda m, x: m.fc(m.block(x).mean(1)),
        block=nn.TransformerEncoderLayer(8, 2, 12, dropout=0.0, batch_first=True),
        fc=nn.Linear(8, CLASSES),
    )


@CASES(inputs=vectors(6), refuses={"a.weight": "cdist|cosine"})
def cosine_similarity():
    return Net(
        lambda m, x: m.fc(F.cosine_similarity(m.a(x), m.b(x), dim=1)[:, None]),
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 4),
        fc=nn.Linear(1, CLASSES),
    )


@CASES(inputs=vectors(6))
def bilinear_layer():
    return Net(
        lambda m, x: m.fc(m.pair(torch.tanh(m.a(x)), torch.tanh(m.b(x)))),
        a=nn.Linear(6, 4),
        b=nn.Linear(6, 3),
        pair=nn.Bilinear(4, 3, 4),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(splits=("up.weight",), predicts=True)
def convnext_block():
    """Layer norm over the trunk's channels; only the hidden units of the block can be split."""

    def run(m, x):
        x = m.stem(x)
        y = m.norm(m.depthwise(x).permute(0, 2, 3, 1))
        y = m.down(F.gelu(m.up(y))) * m.scale
        return m.fc((x + y.permute(0, 3, 1, 2)).mean((2, 3)))

    return Net(
        run,
        stem=conv(3, 4),
        depthwise=conv(4, 4, groups=4),
        norm=nn.LayerNorm(4, eps=1e-6),
        up=nn.Linear(4, 7),
        down=nn.Linear(7, 4),
        scale=nn.Parameter(torch.ones(4)),
        fc=nn.Linear(4, CLASSES),
    )


@CASES(inputs=sequences(6, 8), splits=("tokens1.weight", "channels1.weight"), predicts=True)
def mixer_block():
    """Tokens are mixed through a transpose: the hidden units of both MLPs can be split, positions and trunk can't."""

    def run(m, x):
        x = x + m.tokens2(F.gelu(m.tokens1(m.norm1(x).transpose(1, 2)))).transpose(1, 2)
        x = x + m.channels2(F.gelu(m.channels1(m.norm2(x))))
        return m.fc(x.mean(1))

    return Net(
        run,
        norm1=nn.LayerNorm(8),
        tokens1=nn.Linear(6, 4),
        tokens2=nn.Linear(4, 6),
        norm2=nn.LayerNorm(8),
        channels1=nn.Linear(8, 7),
        channels2=nn.Linear(7, 8),
        fc=nn.Linear(8, CLASSES),
    )


@CASES(predicts=True)
def batch_norm_function_on_the_statistics_of_the_batch():
    """The running statistics are given, and not used: each image depends on the others."""

    def run(m, x):
        return F.silu(F.batch_norm(x, m.n.running_mean.clone(), m.n.running_var.clone(), m.n.weight, m.n.bias, True))

    return around(run, n=nn.BatchNorm2d(4))


@CASES(predicts=True)
def batch_norm_function_that_also_trains():
    def run(m, x):
        return F.silu(
            F.batch_norm(x, m.n.running_mean, m.n.running_var, m.n.weight, m.n.bias, training=True, momentum=0.0)
        )

    return around(run, n=nn.BatchNorm2d(4))
