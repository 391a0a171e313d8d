"""How long activations live: what is in memory while each operation runs, in the order the module runs them.

A tensor lives from the operation that makes it to the last one that reads it. Views share the memory of what they look
at; nothing is computed in place, as small runtimes plan it. What is fused makes one tensor, its last.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from energysplit.graph.network import Count, Layer
from energysplit.graph.spaces import Spaces
from energysplit.graph.walk import Visit, Walk
from energysplit.graph.weightless import free, result_channels

_IMAGES = ""
"""The unit that stands for the network's input."""


def with_lifetimes(
    walk: Walk, names: Mapping[fx.Node, str], unit: Mapping[fx.Node, str], found: Mapping[str, Layer], spaces: Spaces
) -> dict[str, Layer]:
    """The priced operations with their parts and what is alive while each runs.

    Args:
        walk: the walk through the module in eval mode.
        names: operation -> its name.
        unit: operation -> what it is priced with.
        found: name -> what is priced.
        spaces: the channel spaces.
    """
    visits = {visit.node: visit for visit in walk.visits}
    parts: dict[str, list[fx.Node]] = {name: [] for name in found}
    for node, name in unit.items():
        parts[name].append(node)
    place = {node: position for position, node in enumerate(visits)}
    # A fused operation is done when its last part is; views of it may come later, and of a part of it.
    ends = {name: _last_made([visits[node] for node in nodes]) for name, nodes in parts.items() if nodes}
    done = {name: place[visit.node] for name, visit in ends.items()}
    elements = {name: _elements(visit, walk, spaces) for name, visit in ends.items()}
    made, last = dict(done), dict(done)
    image = next(visit for visit in walk.visits if visit.node.op == "placeholder")
    elements[_IMAGES], made[_IMAGES], last[_IMAGES] = Count(_images(walk)), -1, -1
    values = {image.node: _IMAGES, **unit}
    for node, visit in visits.items():
        held = [values[source] for source in node.all_input_nodes if source in values]
        if node in unit:
            for value in held:
                if unit[node] != value:
                    last[value] = max(last[value], done[unit[node]])
        elif held and visit.result:  # a view of the images; what only asks for a size keeps nothing alive
            values[node] = held[0]
    output = next((node for node in image.node.graph.nodes if node.op == "output"), None)
    for source in output.all_input_nodes if output is not None else ():
        if source in unit:
            last[unit[source]] = len(place)
    result = {}
    for name, layer in found.items():
        if name not in done:
            result[name] = layer
            continue
        alive = [value for value in made if made[value] <= done[name] <= last[value]]
        live = sum((elements[value] for value in alive), Count(0))
        result[name] = replace(layer, live=live, parts=tuple(names[node] for node in parts[name]))
    return result


def _images(walk: Walk) -> int:
    """Elements of one input image."""
    return walk.example.numel() // walk.images


def _last_made(parts: Sequence[Visit]) -> Visit:
    """The last part that makes a tensor of its own; the first where all are views."""
    return next((part for part in reversed(parts) if not free(part)), parts[0])


def _elements(visit: Visit, walk: Walk, spaces: Spaces) -> Count:
    """Elements of an operation's result for one image."""
    assert visit.call is not None
    sizes = [leaf.numel() for leaf in tree_leaves(visit.call.result) if isinstance(leaf, torch.Tensor)]
    if not visit.result and sum(sizes) != visit.source.numel():  # several tensors that are no pieces of one
        return Count(sum(sizes) // walk.images)
    count, size = result_channels(visit, walk.images, spaces)
    return count * (size[0] * size[1])
