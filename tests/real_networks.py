"""Writes the page that says which networks are supported: `python tests/real_networks.py > docs/supported.md`.

It takes some minutes. `tests/graph/test_networks.py` proves the page's rows while it splits, trains, saves, prices and
exports the same networks.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path

from stock_networks import FAMILIES, KINKED, NETWORKS, Real
from stock_predictions import kinked_checks, smooth_checks

import energysplit as es

PAGE = Path(__file__).resolve().parents[1] / "docs" / "supported.md"


def family_row(real: Real) -> str:
    """The row of a family in the table of predictions."""
    checks = smooth_checks(real)
    worst = max(check.error for check in checks)
    bound = next((text for limit, text in ((1e-4, "0.01 %"), (1e-3, "0.1 %"), (1e-2, "1 %")) if worst < limit), "more")
    steps = sorted({f"{check.step:.0e}" for check in checks}, key=float)
    cells = [real.name, f"below {bound}", f"{steps[0]} to {steps[-1]}" if len(steps) > 1 else steps[0]]
    if real.family in KINKED:
        cells += [f"{check.realised / check.predicted:.2f}" for check in kinked_checks(real)]
    else:
        cells += ["-", "-"]
    return "| " + " | ".join(cells) + " |"


def row(real: Real, net: es.Network) -> str:
    """The network's row of the page."""
    groups = net.groups.values()
    able = [group for group in groups if group.splittable]
    neurons = f"{sum(group.channels for group in able):,} of {sum(group.channels for group in groups):,}"
    macs = f"{real.macs() / 1e6:,.2f} M"
    source = "timm" if real.timm else "torchvision"
    why = "; ".join(f"{text} ({count})" for text, count in reasons(net).items())
    return f"| {real.name} | {source} | {len(able)} of {len(groups)} | {neurons} | {macs} | {why or 'outputs only'} |"


def reasons(net: es.Network) -> dict[str, int]:
    """Why groups other than the outputs can't be split, without the names of this network's layers -> groups."""
    found: Counter[str] = Counter()
    for group in net.groups.values():
        if not group.splittable and "outputs" not in group.reason:
            found[shortened(group.reason)] += 1
    return dict(found.most_common())


def shortened(reason: str) -> str:
    """A reason without what is peculiar to one layer: its name, its sizes, where an operation stands.

    >>> shortened("operation 'add' (at 'add_2'): channels meet a tensor of fixed size")
    '`add`: channels meet a tensor of fixed size'
    >>> shortened("layer 'blocks.0.norm' (LayerNorm): it compares the channels of (2, 8)")
    'LayerNorm: it compares the channels of'
    >>> shortened("its channels stand along several dimensions at 'view_8'")
    'its channels stand along several dimensions at `view`'
    """
    text = re.sub(r"^operation ('\w+') \(at '\w+'\)", r"\1", reason)
    text = re.sub(r"^layer '[\w.]+' \((\w+)\)", r"\1", text)
    text = re.sub(r"'(\w*?)(?:_\d+)?'", r"`\1`", text)
    return re.sub(r" (?:'[\w.]+'|\(\d[\d, ]*\))", "", text).replace("|", "/")


HEAD = """# Is my model supported?

Ask it: `energysplit.trace` finds the channel groups of any `torch.nn.Module` and says of each whether it can be split
or why not. Nothing is guessed: an operation that is not understood is refused by name, and what is believed is proved
on a copy before you get it.

```python
import torch
import torchvision

import energysplit as es

model = torchvision.models.convnext_tiny(num_classes=10)
net = es.trace(model, torch.zeros(2, 3, 64, 64))
for group in net.groups.values():
    if not group.splittable:
        print(f"{group.name} -> {group.reason}")
```

## Reading the reasons

A group is a set of channels that can only be split together, named after the first layer that writes it. A reason
names the operation that stands in the way.

- **its channels are the network's outputs**: nothing to do, classes do not grow.
- **layer norm, group norm or softmax compares the channels with each other**: nothing to do; a copy would change what
  the others are compared with. The hidden units of a transformer's blocks can be split.
- **sizes are written into the code, channels are taken by number**: write `x.flatten(1)`, sizes from `x.shape` in place
  of numbers, `chunk` in place of slices.
- **channels meet a tensor whose size is fixed or whose channels are not followed**: the other tensor comes from the
  input, from the code or from a refused group; look at that group's reason first. One value a channel can be a
  parameter.
- **no rule says what it does to channels**: write it with operations that are known (layers, element-wise functions,
  pooling, reshapes, concatenation), or leave the group as it is.
- **split, it breaks ...**: found by the trial growth; the operation depends on the width in a way that the trace does
  not show. Look there for a number that should be a size.

A model is refused as a whole (`UnsupportedModel`) only where its operations can't be listed, or none of them can be
followed: control flow that depends on values, forward functions of several inputs, tensors changed in place and read
again. Everything else stays trainable and exportable as it is, whether its groups can be split or not.

## Networks this is tested on

Each network below is split in single groups, in all groups, and in all groups twice, in float64 with random weights and
random batch-norm state: outputs change by less than 1e-9 of the largest one. The grown networks train, are saved and
loaded, and export to ONNX. Multiply-accumulates are of one image at the usual size, for 1,000 classes; the prices
`energysplit.price` gives equal `torch.utils.flop_counter`'s count.

"""


PREDICTIONS = """
## How well the loss change is predicted

With smooth activations in place of kinked ones (softplus for ReLU, SiLU for Hardswish) the loss change that
`energysplit.splitting_index` predicts is that of the real split to second order: below, the largest relative error
over single groups and one neuron of every group together, float64. The step is 1e-3, smaller where a max-pooling window
would otherwise take another element: such a switch is a kink, and the prediction knows nothing of it.

A kinked activation has no second derivative at its kinks; the prediction replaces each by a kernel (here beta = 10).
The last columns are what one neuron of every group together really changes, over what is predicted, on the 32 images
the directions were found on, random weights: the smoothed form gives the sign and the size, within a factor of about
two where the step is small, and overstates what larger steps bring.

| network | error, smooth | step | realised / predicted, kinked, step 0.01 | step 0.03 |
| --- | --- | --- | --- | --- |
"""


def families() -> list[str]:
    """The families in the order of the table."""
    return list(dict.fromkeys(real.family for real in NETWORKS.values()))


def page() -> str:
    """The whole page; traces every network."""
    lines = [HEAD + "| network | from | groups | neurons that can be split | MACs | refused because (groups) |"]
    lines.append("| --- | --- | --- | --- | --- | --- |")
    for real in NETWORKS.values():
        lines.append(row(real, real.trace()))
    return "\n".join(lines) + "\n" + PREDICTIONS + "".join(family_row(FAMILIES[name]) + "\n" for name in families())


if __name__ == "__main__":
    print(page(), end="")
