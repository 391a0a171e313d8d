"""How long activations live: what is in memory while each operation runs, in the order the module runs them.

A tensor lives from the operation that makes it to the last one that reads it. Views share the memory of what they look
at; nothing is computed in place, as small runtimes plan it. What is fused makes one tensor, its last.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import fx
from torch.utils._pytree import tree_leaves

from energysplit.graph.network import Count, Layer
from energysplit.graph.spaces import Spaces
from energysplit.graph.walk import Visit, Walk
from energysplit.graph.weightless import channels

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
    # A fused operation is done when its last part is.
    done = {name: max(place[node] for node in nodes) for name, nodes in parts.items() if nodes}
    elements = {name: _elements(visits[nodes[-1]], walk, spaces) for name, nodes in parts.items() if nodes}
    made, last = dict(done), dict(done)
    image = next(visit for visit in walk.visits if visit.node.op == "placeholder")
    elements[_IMAGES], made[_IMAGES], last[_IMAGES] = Count(_images(walk)), -1, -1
    for node in visits:
        for source in node.all_input_nodes:
            value = _IMAGES if source is image.node else unit.get(source)
            reader = unit.get(node)
            if value is not None and reader != value:
                last[value] = max(last[value], done[reader] if reader is not None else place[node])
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


def _elements(visit: Visit, walk: Walk, spaces: Spaces) -> Count:
    """Elements of an operation's result for one image."""
    if visit.result:
        count, size = channels(visit.outcome.mark, visit.result, walk.images, spaces, visit.node.name)
        return count * (size[0] * size[1])
    assert visit.call is not None
    sizes = [leaf.numel() for leaf in tree_leaves(visit.call.result) if isinstance(leaf, torch.Tensor)]
    return Count(sum(sizes) // walk.images)
