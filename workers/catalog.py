"""The catalogue of this installation."""

__all__ = ["installed_catalog"]

from studies.catalog import Catalog
from workers.optimizers import load_optimizers
from workers.workloads import load_workloads


def installed_catalog() -> Catalog:
    """Return the cards of every optimizer and workload that is installed here."""
    return Catalog(
        optimizers={name: entry.card for name, entry in load_optimizers().items()},
        workloads={name: workload.card for name, workload in load_workloads().items()},
    )
