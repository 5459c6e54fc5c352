"""The checks of a study's resources: what Ray can reserve, and what the processes of a trial need."""

__all__ = ["resource_problems", "shared_trial_problems"]

from studies.catalog import WorkloadCard
from studies.errors import SpecProblem
from studies.resources import RESOURCE_STEP, Resources
from studies.spec import StudySpec


def resource_problems(resources: Resources) -> list[SpecProblem]:
    """Return the resources that Ray cannot reserve, or of which a pack would use only a part."""
    amounts = {
        "cpus_per_pack": resources.cpus_per_pack,
        "gpus_per_pack": resources.gpus_per_pack,
        "cpus_per_process": resources.cpus_per_process,
        "gpus_per_process": resources.gpus_per_process,
    }
    # Ray multiplies and truncates in the same way.
    problems = [
        SpecProblem(
            f"/resources/{name}",
            f"expected at least {RESOURCE_STEP}, got {amount:g}: "
            f"Ray reserves CPUs and GPUs in steps of {RESOURCE_STEP}",
        )
        for name, amount in amounts.items()
        if amount and int(amount * round(1 / RESOURCE_STEP)) == 0
    ]
    processes = resources.processes_per_trial
    for kind in ("cpus", "gpus"):
        of_pack, of_process = amounts[f"{kind}_per_pack"], amounts[f"{kind}_per_process"]
        if of_process is not None and abs(of_process * processes - (of_pack or 0)) > RESOURCE_STEP / 2:
            problems.append(
                SpecProblem(
                    f"/resources/{kind}_per_pack",
                    f"expected {kind}_per_process x processes_per_trial = {of_process:g} x {processes} = "
                    f"{of_process * processes:g}, got {of_pack:g}; leave out one of the two",
                )
            )
    if processes > 1:
        return [*problems, *_process_problems(resources)]
    if resources.shard_optimizer:
        found = (
            "expected processes_per_trial above 1, over which the state is sharded, got 1; set it to false"
        )
        problems.append(SpecProblem("/resources/shard_optimizer", found))
    gpus = resources.gpus_per_pack
    if gpus > 1:
        why = (
            "a pack trains on one GPU, so the others would be reserved and stay idle"
            if gpus.is_integer()
            else "Ray reserves a fraction of one GPU or whole GPUs, and a pack trains on one"
        )
        found = f"expected at most 1 GPU, got {gpus:g}: {why}; set gpus_per_pack to 1 or less"
        problems.append(SpecProblem("/resources/gpus_per_pack", found))
    return problems


def _process_problems(resources: Resources) -> list[SpecProblem]:
    """Return what keeps the processes of a trial from training together."""
    problems: list[SpecProblem] = []
    if resources.gpus_per_process not in (0, 1):
        found = (
            f"expected 0 or 1, got {resources.gpus_per_process:g}: each process of a trial trains on a GPU "
            "of its own, or on CPUs"
        )
        problems.append(SpecProblem("/resources/gpus_per_process", found))
    if (resources.max_pack_size or 1) > 1:
        found = (
            f"expected 1 in a study of several processes per trial, got {resources.max_pack_size}: such "
            "trials are trained one at a time; leave it out"
        )
        problems.append(SpecProblem("/resources/max_pack_size", found))
    return problems


def shared_trial_problems(spec: StudySpec, workload: WorkloadCard, processes: int) -> list[SpecProblem]:
    """Return why several processes cannot train a trial of a workload together."""
    if workload.kind == "tensors":
        found = (
            f"expected 1 for {workload.name}, got {processes}: only a LoopWorkload or a ScriptWorkload can "
            "be trained by several processes"
        )
        return [SpecProblem("/resources/processes_per_trial", found)]
    batch_size = spec.training.batch_size or workload.batch_size
    if batch_size % processes == 0:
        return []
    found = (
        f"expected a multiple of processes_per_trial = {processes}, because each process gets an equal part "
        f"of a batch, got {batch_size}"
    )
    return [SpecProblem("/training/batch_size", found)]
