"""The catalogue of this installation."""

__all__ = ["installed_catalog"]

from studies.catalog import BrokenPackage, Catalog, PackageVersion, WorkloadCard
from workers.optimizers import load_optimizers
from workers.training_tasks import takes_label_smoothing
from workers.workloads import AnyWorkload, ScriptWorkload, kind_of, load_workloads, what_is_missing


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
            name: _announced(workload, package=workloads.packages.get(name))
            for name, workload in workloads.items()
        },
        broken=tuple(broken),
    )


def _announced(workload: AnyWorkload, *, package: PackageVersion | None) -> WorkloadCard:
    """Return a workload's card with what its author need not write."""
    found = None if isinstance(workload, ScriptWorkload) else takes_label_smoothing(workload)
    return workload.card.model_copy(
        update={
            "kind": kind_of(workload),
            "package": package,
            "takes_label_smoothing": found,
            "missing": what_is_missing(workload),
        }
    )
