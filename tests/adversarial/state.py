"""Work in place, hooks, subclasses, replaced functions, and what a module remembers beside its parameters."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.checkpoint import checkpoint

from adversarial.case import CLASSES, Cases, Net, around, conv, vectors

CASES = Cases()


@CASES(smooth=False)
def changed_in_place_and_read_again():
    """y and z are one tensor: y + z is twice the rectified channels."""

    def run(m, x):
        y = m.second(x)
        z = y.relu_()
        return y + z

    return around(run, second=conv(4, 4))


@CASES(smooth=False)
def rectified_in_place_before_a_residual():
    """The shortcut carries the rectified channels: the ReLU works in place."""

    def run(m, x):
        y = m.second(x)
        z = m.third(m.relu(y))
        return y + z

    return around(run, second=conv(4, 4), third=conv(4, 4), relu=nn.ReLU(inplace=True))


@CASES()
def one_channel_changed_in_place():
    def run(m, x):
        y = m.second(x)
        y[:, 0] += 1
        return torch.tanh(y)

    return around(run, second=conv(4, 4))


@CASES()
def view_changed_in_place():
    def run(m, x):
        y = m.second(x)
        y.view(y.size(0), -1)[:, :64].mul_(3.0)
        return torch.tanh(y)

    return around(run, second=conv(4, 4))


@CASES()
def written_into_an_empty_tensor():
    def run(m, x):
        y = torch.empty_like(x)
        y[:, :2] = torch.tanh(x[:, :2])
        y[:, 2:] = F.silu(x[:, 2:])
        return y

    return around(run)


@CASES()
def output_hook_that_turns_channels_round():
    net = around(lambda m, x: torch.tanh(m.second(x)), second=conv(4, 4))
    net.second.register_forward_hook(lambda module, inputs, output: output.flip(1) + output)
    return net


@CASES()
def input_hook_that_scales_channels():
    net = around(lambda m, x: torch.tanh(m.second(x)), second=conv(4, 4))
    ramp = torch.tensor([1.0, 2.0, 3.0, 4.0], dtype=torch.float64).view(4, 1, 1)
    net.second.register_forward_pre_hook(lambda module, inputs: (inputs[0] * ramp,))
    return net


@CASES()
def hook_on_the_whole_model():
    net = around(lambda m, x: torch.tanh(x))
    net.register_forward_hook(lambda module, inputs, output: output.softmax(-1))
    return net


@CASES()
def hook_on_a_block():
    block = nn.Sequential(conv(4, 4), nn.SiLU())
    block.register_forward_hook(lambda module, inputs, output: output + output.flip(1))
    return around(lambda m, x: m.block(x), block=block)


class Reversed(nn.Conv2d):
    """A convolution whose outputs stand in reverse order."""

    def forward(self, x):
        return super().forward(x) + super().forward(x).flip(1)


class ChannelSoftmaxReLU(nn.ReLU):
    """An activation by its name only."""

    def forward(self, x):
        return torch.softmax(x, 1)


class ScaledLinear(nn.Linear):
    """A linear layer that divides by its own width."""

    def forward(self, x):
        return super().forward(x) / self.out_features


class PlainSubclass(nn.Conv2d):
    """A convolution with one more attribute."""

    note = "nothing else"


@CASES()
def subclass_of_a_convolution_that_does_more():
    return around(lambda m, x: torch.tanh(m.second(x)), second=Reversed(4, 4, 3, padding=1))


@CASES(refuses={"conv.weight": "."})
def subclass_of_an_activation_that_does_more():
    return around(lambda m, x: m.act(x), act=ChannelSoftmaxReLU())


@CASES(inputs=vectors(6), refuses={"a.weight": "."})
def subclass_of_a_linear_layer_that_reads_its_width():
    return Net(lambda m, x: m.fc(F.silu(m.a(x))), a=ScaledLinear(6, 4), fc=nn.Linear(4, CLASSES))


@CASES(predicts=True)
def subclass_of_a_convolution_that_does_the_same():
    return around(lambda m, x: torch.tanh(m.second(x)), second=PlainSubclass(4, 4, 3, padding=1))


@CASES(idle=("second.weight", "second.bias"))
def forward_replaced_on_an_instance():
    net = around(lambda m, x: torch.tanh(m.second(x)), second=conv(4, 4))
    second = net.second
    net.second.forward = lambda x: F.conv2d(x, second.weight, second.bias, padding=1).flip(1)
    return net


class Turned(torch.autograd.Function):
    """Channels in reverse order, with its own backward pass."""

    @staticmethod
    def forward(ctx, x):
        return x.flip(1)

    @staticmethod
    def backward(ctx, gradient):
        return gradient.flip(1)


@CASES()
def function_with_its_own_gradient():
    return around(lambda m, x: x + Turned.apply(x))


@CASES()
def block_that_is_computed_twice():
    return around(lambda m, x: checkpoint(m.block, x, use_reentrant=False), block=nn.Sequential(conv(4, 4), nn.SiLU()))


@CASES()
def counter_of_calls():
    def run(m, x):
        m.calls += 1
        return torch.tanh(x)

    return around(run, calls=0)


@CASES()
def channels_remembered_between_calls():
    """Python state shaped like channels: a running mean, kept by hand."""

    def run(m, x):
        y = x - m.mean.view(1, -1, 1, 1)
        if m.training:
            m.mean = 0.9 * m.mean + 0.1 * x.detach().mean((0, 2, 3))
        return torch.tanh(y)

    return around(run, mean=torch.tensor([0.1, 0.2, 0.3, 0.4], dtype=torch.float64))


@CASES()
def running_mean_in_a_buffer():
    def run(m, x):
        return torch.tanh(x - m.mean.view(1, -1, 1, 1))

    net = around(run)
    net.register_buffer("mean", torch.zeros(4))
    return net


@CASES()
def scripted_block():
    return around(lambda m, x: m.block(x), block=torch.jit.script(nn.Sequential(conv(4, 4), nn.SiLU())))


@CASES()
def layer_in_a_plain_list():
    """Not registered: it neither moves, trains nor is saved with the module."""
    return around(lambda m, x: torch.tanh(m.hidden[0](x)), hidden=[conv(4, 4).double()])


@CASES()
def weight_remembered_in_a_list():
    """The list keeps the old weight when the layer gets a new one."""
    net = around(lambda m, x: torch.tanh(F.conv2d(x, m.memory[0], m.second.bias, padding=1)), second=conv(4, 4))
    net.memory = [net.second.weight]
    return net


@CASES(idle=("second.weight", "second.bias"))
def layer_remembered_by_a_closure():
    second = conv(4, 4)
    return around(lambda m, x: torch.tanh(second(x)), second=second)


@CASES(idle=("second.weight",))
def method_of_a_layer_remembered():
    net = around(lambda m, x: torch.tanh(m.call(x)), second=conv(4, 4))
    net.call = net.second.forward
    return net
