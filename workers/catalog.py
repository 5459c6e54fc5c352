"""The catalogue of this installation."""

__all__ = ["installed_catalog"]

from studies.catalog import BrokenPackage, Catalog
from workers.optimizers import load_optimizers
from workers.workloads import kind_of, load_workloads


def installed_catalog() -> Catalog:
    """Return the cards of every optimizer and workload that is installed here, and the broken packages."""
    broken: list[BrokenPackage] = []
    optimizers = load_optimizers(on_broken=broken.append)
    workloads = load_workloads(on_broken=broken.append)
    return Catalog(
        optimizers={
            name: entry.card.model_copy(update={"package": optimizers.packages.get(name)})
            for name, entry in optimizers.items()
        },
        workloads={
            name: workload.card.model_copy(
                update={"kind": kind_of(workload), "package": workloads.packages.get(name)}
            )
            for name, workload in workloads.items()
        },
        broken=tuple(broken),
    )
