"""What all convolutions of a network take together."""

import math
from collections.abc import Sequence

from bench.results import LIMIT, OURS, Results, bound_of, find
from bench.shapes import LAYERS_OF_NETWORKS
from bench.targets import HIGH


def network_totals(
    results: Results, network: str, batch: int, operations: Sequence[str] = ("conv2d",)
) -> dict[str, float]:
    """Give the seconds of every contender that has all of them.

    `HIGH`: ours with that precision; `LIMIT`: of the limits that bind ours. Every layer counts as
    often as the network has it, with fresh results.
    """
    parts: dict[str, list[float]] = {}
    convolutions = [
        (layer.times, operation, layer.workload.of(batch).name)
        for layer in LAYERS_OF_NETWORKS[network]
        if layer.workload.filters
        for operation in operations
    ]
    for times, operation, name in convolutions:
        rows = results.of_case(operation, name)
        seconds = {row.contender: row.seconds for row in rows if row.mode == "fresh" and row.timing}
        ours = find(rows, OURS, "fresh")
        if ours:
            seconds[HIGH] = (find(rows, OURS, HIGH) or ours).seconds
            if bound := bound_of(ours, rows):
                seconds[LIMIT] = bound.share * ours.seconds
        for contender, once in seconds.items():
            parts.setdefault(contender, []).append(times * once)
    return {
        contender: math.fsum(found)
        for contender, found in parts.items()
        if len(found) == len(convolutions)
    }
