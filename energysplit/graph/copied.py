"""A deep copy of any module."""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor, nn


def copied(module: nn.Module, memo: dict[int, Any] | None = None) -> nn.Module:
    """A deep copy, of modules too that hold computed tensors, which torch refuses to copy.

    Pruned and weight-normed layers keep their last weight, with its history, as an attribute. The copy has its values,
    and computes it anew when it runs.

    Args:
        module: it is left as it is.
        memo: id of each object that is not copied -> what the copy holds in its place.
    """
    memo = {} if memo is None else memo
    for sub in module.modules():
        for value in vars(sub).values():
            if isinstance(value, Tensor) and not value.is_leaf:
                memo.setdefault(id(value), value.detach().clone())
    return copy.deepcopy(module, memo)
