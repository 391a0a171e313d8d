"""Which of our priced operations each node of an exported model belongs to.

The exporter notes with every node in which module it was made; our own trace knows the same of its operations. Within
one module, nodes and operations that do the same kind of thing stand in the same order. A node that nothing claims
belongs with the node before it: shapes, casts, constants.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from typing import Any

from energysplit.graph import Network
from energysplit.graph.network import Op

_FAMILIES = {
    "add": ("Add", "Sub", "Sum"),
    "multiply": ("Mul", "Div"),
    "max_pool": ("MaxPool", "GlobalMaxPool"),
    "average_pool": ("AveragePool", "GlobalAveragePool", "ReduceMean", "ReduceSum"),
    "layer": ("Conv", "Gemm", "MatMul"),
    "activation": (
        *("Relu", "Clip", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Gelu", "Elu", "Selu", "LeakyRelu"),
        *("Softplus", "Mish", "Celu", "ThresholdedRelu", "PRelu", "Erf", "Softmax"),
    ),
    "move": ("Concat", "Transpose", "Slice", "Split", "Pad", "Gather", "DepthToSpace", "SpaceToDepth", "Tile"),
}
_FAMILY = {node: family for family, nodes in _FAMILIES.items() for node in nodes}
_LAYERS = ("conv1d", "conv2d", "linear")
_SCOPES = "pkg.torch.onnx.name_scopes"


def assign(net: Network, nodes: Any) -> list[str]:
    """The name of the priced operation of each ONNX node.

    Args:
        net: the network that was exported.
        nodes: of the exported graph, with the exporter's metadata.
    """
    unit_of = {part: name for name, layer in net.layers.items() for part in layer.parts}
    by_module: dict[str, list[str]] = defaultdict(list)  # module that is one operation -> its calls, as units
    inside: dict[tuple[str, str], list[str]] = defaultdict(list)  # (module around, family) -> units in order
    for op in net.ops:
        if op.name not in unit_of:
            continue
        if op.node.op == "call_module":
            by_module[str(op.node.target)].append(unit_of[op.name])
        else:
            inside[_around(op), _family(net, op, unit_of[op.name])].append(unit_of[op.name])
    scopes = [_scopes(node) for node in nodes]
    homes = [next((scope for scope in reversed(path) if scope in by_module), None) for path in scopes]
    of_module: dict[str, list[int]] = defaultdict(list)
    for place, home in enumerate(homes):
        if home is not None:
            of_module[home].append(place)
    found: list[str | None] = [None] * len(homes)
    for home, places in of_module.items():
        calls = by_module[home]
        each = -(-len(places) // len(calls))  # a module called several times makes as many nodes every time
        for number, place in enumerate(places):
            found[place] = calls[number // each]
    first = next(iter(unit_of.values()))
    last = first
    for place, node in enumerate(nodes):
        name = found[place]
        if name is None:
            family = _FAMILY.get(node.op_type, "")
            modules = [scope for scope in reversed(scopes[place]) if (scope, family) in inside]
            queue = inside[modules[0], family] if modules else []
            name = queue.pop(0) if queue else last
        found[place] = last = name
    return [name for name in found if name is not None]


def _scopes(node: Any) -> list[str]:
    """The modules around a node, outermost first; the last entry is the operation itself."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        names = ast.literal_eval(text) if text else []
    except (SyntaxError, ValueError):
        return []
    return [str(name) for name in names][:-1]


def _around(op: Op) -> str:
    """The module whose forward the operation stands in."""
    stack = op.node.meta.get("nn_module_stack")
    return "" if not stack else str(next(reversed(stack.values()))[0])


def _family(net: Network, op: Op, unit: str) -> str:
    """What kind of nodes an operation becomes."""
    case = net.layers[unit].case
    if case.op in _LAYERS:
        return "activation" if op.activation is not None else "layer"
    return case.op
