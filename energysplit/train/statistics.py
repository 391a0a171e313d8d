"""Running statistics of batch norm over several processes.

In training each process normalises by the statistics of its own part of a batch, as usual in data-parallel training.
The running statistics that evaluation uses are averaged over processes at the end of each epoch. Their update is
linear, so averaging once is averaging every step: the running mean is that of the whole batches (where these divide
evenly), and the running variance, an average of unbiased variances of parts, has the expectation of one over the whole.
The main process's alone would be as unbiased, but from a part of the images only.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from energysplit.train.session import Session


@torch.no_grad()
def same_statistics(session: Session, module: nn.Module, buffers: Mapping[str, Tensor] | None = None) -> None:
    """Make buffers the same on all processes: running means and variances averaged, others those of the main process.

    Args:
        session: where the module is.
        module: says which buffers are statistics.
        buffers: by name, changed in place; the module's own if not given, else others of its names, such as an average
            kept of them (a linear function of them, so that its average belongs to theirs).
    """
    if session.processes == 1:
        return
    buffers = dict(module.named_buffers()) if buffers is None else buffers
    names = {
        f"{name}.{part}" if name else part
        for name, layer in module.named_modules()
        if isinstance(layer, _NormBase)
        for part in ("running_mean", "running_var")
    }
    statistics = [buffers[name] for name in sorted(names & buffers.keys())]
    if statistics:
        mean = session.sum(torch.cat([each.flatten() for each in statistics])) / session.processes
        for each, part in zip(statistics, mean.split([each.numel() for each in statistics]), strict=True):
            each.copy_(part.view_as(each))
    for name in sorted(buffers.keys() - names):
        whole = buffers[name].contiguous()
        dist.broadcast(whole, src=0)
        buffers[name].copy_(whole)
