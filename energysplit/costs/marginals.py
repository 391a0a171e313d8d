"""The price of one more neuron in each group for people to read, where a table may not reach that far.

`marginal_price` refuses what a table does not cover, as whoever spends a budget must; a page of numbers shows the rest.
"""

from __future__ import annotations

from energysplit.costs.network_price import NetworkPricer
from energysplit.errors import InputError


def known_marginals(pricer: NetworkPricer) -> tuple[dict[str, float | None], str]:
    """Group -> price of one more neuron there, None where the provider refuses it, and the first refusal ("" if none).

    What is refused for a group that can't be split anyway is no refusal to speak of. The network itself must have a
    price.
    """
    widths = dict(pricer.net.widths)
    found: dict[str, float | None] = {}
    refusal = ""
    for name in widths:
        try:
            found[name] = pricer.marginal(widths, name)
        except InputError as error:
            found[name] = None
            if pricer.net.groups[name].splittable:
                refusal = refusal or str(error)
    return found, refusal
