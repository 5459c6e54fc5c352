"""How a study would fit on the machines that there are when it is checked."""

__all__ = ["Placement", "placement"]

from typing import Final

from pydantic import Field

from studies.cluster_views import ClusterView
from studies.frozen_model import FrozenModel
from studies.resources import Resources

# Cores and GPUs are fractions, whose multiples are not exact.
_NEARLY: Final = 1e-6


class Placement(FrozenModel):
    """The machines that there are now, and how long they would train a study."""

    cpus: float = Field(description="Cores that the largest cluster lends to trials.")
    gpus: float = Field(description="GPUs that it lends.")
    packs_at_once: int = Field(
        description="Most packs of the study that it trains at once if nothing else runs; 0 if none fits."
    )
    estimate_s: float | None = Field(
        description=(
            "Estimated seconds until the study ends if nothing else runs and no trials are stacked, from the "
            "workload's card. Null if the card has no time, no pack fits, or packs use GPUs."
        )
    )


def placement(
    resources: Resources,
    machines: ClusterView,
    *,
    runs: int,
    cpu_s: float | None,
    longest_s: float | None,
) -> Placement | None:
    """Return how a study would fit; None if it is not known which machines there are.

    Args:
        resources: what its packs occupy.
        machines: the state of the cluster. A study runs on one Ray cluster, so the largest counts.
        runs: trials and confirmation runs, which is as many packs as there can be.
        cpu_s: estimated seconds of all training on one CPU thread.
        longest_s: of these, the seconds of runs that must follow one another.
    """
    lent = [(nodes.cpus, nodes.gpus) for nodes in machines.nodes]
    lent += [
        (float(each.machine.cpus), float(each.machine.gpus))
        for each in machines.dispatchers
        if each.is_alive and each.machine is not None
    ]
    if not lent:
        return None
    fitting = [(_packs(resources, cpus, gpus), cpus, gpus) for cpus, gpus in lent]
    packs, cpus, gpus = max(fitting)
    packs = min(packs, runs, resources.max_concurrent_packs or packs)
    seconds = None
    if cpu_s is not None and packs and not resources.gpus_per_pack:
        seconds = max(cpu_s / packs, longest_s or 0.0)
    return Placement(cpus=cpus, gpus=gpus, packs_at_once=packs, estimate_s=seconds)


def _packs(resources: Resources, cpus: float, gpus: float) -> int:
    packs = cpus / resources.cpus_per_pack
    if resources.gpus_per_pack:
        packs = min(packs, gpus / resources.gpus_per_pack)
    return int(packs + _NEARLY)
