"""What is worth its cost. No training stage imports this module: editing it retrains nothing."""

from collections.abc import Mapping


def pareto(gains: Mapping[str, float], costs: Mapping[str, float]) -> list[str]:
    """The names that nothing as cheap or cheaper beats or equals, from the cheapest to the dearest.

    Of equals in both, the first; a name without a cost is left out.
    """
    front: list[str] = []
    for name in sorted(costs, key=lambda each: (costs[each], -gains[each])):
        if not front or gains[name] > gains[front[-1]]:
            front.append(name)
    return front
