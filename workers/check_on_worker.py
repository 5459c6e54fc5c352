"""What runs on a worker in the check of a study's workload before its first trial.

It imports neither torch nor the store: the run of a study imports it to send it, and the worker has no store.
"""

__all__ = ["results_on_worker"]

import os
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from studies.catalog import PackageVersion
from studies.process_tree import adopt_orphans, end_descendants
from studies.trials import CheckResult, WorkloadVersion
from workers.deadline import exit_after
from workers.packages import use_packages


def results_on_worker(
    checked: Mapping[str, Any],
    *,
    packages: Sequence[str],
    versions: Sequence[Mapping[str, Any]],
    cpus: float,
    within_s: float,
    settings: Mapping[str, Any],
) -> list[dict[str, Any]]:
    """Check a workload in this process, which ends if that takes too long, and return plain data."""
    adopt_orphans()
    with exit_after(within_s):
        use_packages([*os.environ.get("TANGENT_PACKAGES", "").split(os.pathsep), *packages])
        expected = {each.name: each for each in map(PackageVersion.model_validate, versions)}
        try:
            found = _results(WorkloadVersion(**checked), expected, cpus=cpus, settings=settings)
            return [asdict(result) for result in found]
        finally:
            end_descendants()


def _results(
    checked: WorkloadVersion,
    expected: Mapping[str, PackageVersion],
    *,
    cpus: float,
    settings: Mapping[str, Any],
) -> list[CheckResult]:
    import torch

    from workers.optimizers import load_optimizers
    from workers.workload_check import check_workload
    from workers.workloads import load_workloads

    torch.set_num_threads(max(1, int(cpus)))
    workloads, optimizers = load_workloads(), load_optimizers()
    for kind, name, installed in (
        ("workload", checked.workload, workloads),
        ("optimizer", checked.optimizer, optimizers),
    ):
        unfit = installed.why_unfit(name, kind=kind, expected=expected)
        if unfit is not None:
            return [CheckResult("package", "error", unfit)]
    device = torch.device("cuda:0" if checked.device == "gpu" and torch.cuda.is_available() else "cpu")
    found = check_workload(
        workloads[checked.workload],
        device=device,
        batch_size=checked.batch_size,
        entry=optimizers[checked.optimizer],
        in_steps=checked.budget == "steps",
        **settings,
    )
    return list(found)
