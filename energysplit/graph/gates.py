"""Which producers only make a gate: a factor computed from what it multiplies, as in squeeze-excite.

Their rows are copied with the neuron but not moved: the gate of a copy is that of its original.
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import fx

from energysplit.graph.network import STOPS, Kind, Op
from energysplit.graph.spaces import Spaces


def gates(ops: Sequence[Op], spaces: Spaces) -> dict[str, tuple[str, ...]]:
    """Group -> those of its producers that are gates; a group keeps at least one producer that is none."""
    at = {op.node: op for op in ops}
    found: dict[str, dict[str, None]] = {}
    for op in ops:
        factors = [node for node in op.node.all_input_nodes if node in at and at[node].kind is not Kind.VALUE]
        if op.kind is not Kind.PRODUCT or len(factors) != 2:
            continue
        for gate, gated in (factors, reversed(factors)):
            for source in _producers(gate, at):
                if gated in _ancestors(source):
                    for span in at[source].spans:
                        found.setdefault(span.group, {})[at[source].layer] = None
    result = {}
    for name, layers in found.items():
        if name in spaces.spaces and set(spaces.spaces[name].producers) - set(layers):
            result[name] = tuple(layers)
    return result


def _producers(node: fx.Node, at: dict[fx.Node, Op]) -> list[fx.Node]:
    """The mixing layers whose channels reach `node` without being mixed again."""
    seen: set[fx.Node] = set()
    stack, found = [node], []
    while stack:
        here = stack.pop()
        if here in seen or here not in at:
            continue
        seen.add(here)
        if at[here].kind is Kind.MIX:
            found.append(here)
        elif at[here].kind not in STOPS:
            stack += here.all_input_nodes
    return found


def _ancestors(node: fx.Node) -> set[fx.Node]:
    seen: set[fx.Node] = set()
    stack = [*node.all_input_nodes]
    while stack:
        here = stack.pop()
        if here not in seen:
            seen.add(here)
            stack += here.all_input_nodes
    return seen
