"""Which of our priced operations each node of an exported model belongs to.

The exporter notes with every node in which module it was made; our own trace knows the same of its operations. Within
one module, nodes and operations that do the same kind of thing stand in the same order; several nodes may be one
operation (SiLU is a sigmoid and a product). A node that nothing claims belongs with the node before it: shapes, casts,
constants.
"""

from __future__ import annotations

import ast
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from energysplit.graph import Network
from energysplit.graph.network import Op
from energysplit.types import WEIGHTED

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
    "move": (
        *("Concat", "Transpose", "Slice", "Split", "Pad", "Gather", "DepthToSpace", "SpaceToDepth", "Tile"),
        *("Resize", "Upsample", "GridSample"),
    ),
}
_FAMILY = {node: family for family, nodes in _FAMILIES.items() for node in nodes}
_SCOPES = "pkg.torch.onnx.name_scopes"


def assign(net: Network, nodes: Any) -> list[str]:
    """The name of the priced operation of each ONNX node.

    Args:
        net: the network that was exported.
        nodes: of the exported graph, with the exporter's metadata.
    """
    unit_of = {part: name for name, layer in net.layers.items() for part in layer.parts}
    order = {name: place for place, name in enumerate(net.operations())}
    by_module: dict[str, list[str]] = defaultdict(list)  # module that is one operation -> its calls, as units
    inside: dict[tuple[str, str], list[str]] = defaultdict(list)  # (module around, family) -> units in order
    for op in net.ops:
        if op.name not in unit_of:
            continue
        if op.node.op == "call_module":
            by_module[str(op.node.target)].append(unit_of[op.name])
        elif op.name == unit_of[op.name] or op.activation is not None:  # views and dropout make no nodes to look for
            inside[_around(op), _family(net, op, unit_of[op.name])].append(unit_of[op.name])
    scopes = [_scopes(node) for node in nodes]
    homes = [next((scope for scope in reversed(path[:-1]) if scope in by_module), None) for path in scopes]
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
    last, before = next(iter(order)), ""
    for place, node in enumerate(nodes):
        path, name = scopes[place], found[place]
        operation = path[-1] if path else ""
        if name is None and not (operation and operation == before):  # else one operation as several nodes
            family = _FAMILY.get(node.op_type, "")
            if path:
                queue = next((inside[scope, family] for scope in reversed(path[:-1]) if (scope, family) in inside), [])
            else:  # put in by the exporter, such as the split behind a chunk: it may be what comes next
                queue = next(
                    (units for (_, of), units in inside.items() if of == family and _next(units, last, order)), []
                )
            name = queue.pop(0) if queue else None
        found[place] = last = name or last
        before = operation
    return [name for name in found if name is not None]


def _next(units: list[str], last: str, order: Mapping[str, int]) -> bool:
    """Whether the first of the units directly follows the last one found."""
    return bool(units) and order[units[0]] == order[last] + 1


def _scopes(node: Any) -> list[str]:
    """The modules around a node, outermost first, and the operation it was made of; nothing if it was put in."""
    text = next((entry.value for entry in node.metadata_props if entry.key == _SCOPES), "")
    try:
        names = ast.literal_eval(text) if text else []
    except (SyntaxError, ValueError):
        return []
    return [str(name) for name in names]


def _around(op: Op) -> str:
    """The module whose forward the operation stands in."""
    stack = op.node.meta.get("nn_module_stack")
    return "" if not stack else str(next(reversed(stack.values()))[0])


def _family(net: Network, op: Op, unit: str) -> str:
    """What kind of nodes an operation becomes."""
    case = net.layers[unit].case
    if case.op in WEIGHTED:
        return "activation" if op.activation is not None else "layer"
    return case.op
