"""What price lists made up in tests share: each layer may depend on every group."""

from __future__ import annotations

from collections.abc import Mapping

from energysplit.types import LayerCase


class EveryLayerFollowsAll:
    """`follows` and `case` from `cases` and `operations`."""

    def follows(self, operations: bool = False) -> dict[str, tuple[str, ...]]:
        listed = self.operations() if operations else self.cases()
        return dict.fromkeys(listed, tuple(self.widths))

    def case(self, name: str, widths: Mapping[str, int], operations: bool = False) -> LayerCase:
        return (self.operations(widths) if operations else self.cases(widths))[name]
