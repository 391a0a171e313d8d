"""Small networks built to mislead an analysis of channels, and a judge that takes nothing on trust."""

from adversarial import elementwise, grouped, joins, mixing, pieces, programs, sizes, state, weights, zoo

_PARTS = (mixing, sizes, pieces, joins, elementwise, weights, grouped, programs, state, zoo)
ALL = {name: case for part in _PARTS for name, case in part.CASES.items()}
assert len(ALL) == sum(len(part.CASES) for part in _PARTS), "two networks have one name"
