"""What all convolutions of a network take together."""

import math

from bench.results import LIMIT, OURS, Results, bound_of, find
from bench.shapes import LAYERS_OF_NETWORKS


def network_totals(results: Results, network: str, batch: int) -> dict[str, float]:
    """Give the seconds of every contender that has all of them; `LIMIT`: of those that bind ours.

    Every layer counts as often as the network has it, with fresh results.
    """
    parts: dict[str, list[float]] = {}
    convolutions = [layer for layer in LAYERS_OF_NETWORKS[network] if layer.workload.filters]
    for times, operation, workload in convolutions:
        rows = results.of_case(operation, workload.of(batch).name)
        seconds = {row.contender: row.seconds for row in rows if row.mode == "fresh" and row.timing}
        ours = find(rows, OURS, "fresh")
        if ours and (bound := bound_of(ours, rows)):
            seconds[LIMIT] = bound.share * ours.seconds
        for contender, once in seconds.items():
            parts.setdefault(contender, []).append(times * once)
    return {
        contender: math.fsum(found)
        for contender, found in parts.items()
        if len(found) == len(convolutions)
    }
