"""The check of a study's workload before its first trial, in a process of its own on a machine that trains.

It is `tangent check` for the study's batch size and device, with the optimizer of its first arm. The process
that runs the study does not import torch, so everything about the workload happens on the worker.
"""

__all__ = ["FirstCheck"]

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final, cast

import ray
from ray.exceptions import RayError

from studies.catalog import PackageVersion
from studies.formatting import duration, plural
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.store import RunWriter
from studies.training_problems import used_values
from studies.trials import CheckResult, WorkloadVersion
from workers.check_on_worker import results_on_worker
from workers.retry import DatabaseRetry

_log = logging.getLogger("tangent.run")
# Ray's functions have no complete types.
_ray = cast("Any", ray)
# Data may have to be downloaded first.
_WITHIN_S: Final = 600.0
_POLL_S: Final = 0.25


class FirstCheck:
    """Checks a study's workload, unless a check of its version has found no error before.

    An error may be the machine's, which can be repaired without another version. A built-in workload has
    been checked by our own tests.

    Args:
        spec: the study as submitted.
        plan: the study as resolved.
        writer: stores the results.
        retry: how long to wait for the database.
        packages: folders from which the worker imports packages besides the installed ones.
        versions: packages that add workloads and optimizers, as the study's run has them.
        within_s: seconds after which the check ends without a result.

    Attributes:
        is_due: whether it has still to be done.
        failure: why the study must fail; None if the check found no error.
    """

    def __init__(
        self,
        spec: StudySpec,
        plan: ResolvedStudy,
        *,
        writer: RunWriter,
        retry: DatabaseRetry,
        packages: Sequence[str],
        versions: Mapping[str, PackageVersion],
        within_s: float = _WITHIN_S,
    ) -> None:
        package = plan.workload.package
        self.is_due = spec.check_workload and package is not None
        self.failure: str | None = None
        self._resources = spec.resources
        self._writer, self._retry = writer, retry
        self._packages, self._versions = packages, versions
        self._within_s = within_s
        spaces = [arm.space for arm in plan.arms]
        self._settings: dict[str, Any] = {
            "precisions": sorted(used_values(spec, spaces, "precision") - {"float32"}),
            "smooths_labels": any(used_values(spec, spaces, "label_smoothing")),
        }
        self._version = WorkloadVersion(
            workload=plan.workload.name,
            package="" if package is None else str(versions.get(package.name, package)),
            batch_size=plan.batch_size,
            device="gpu" if spec.resources.gpus_per_pack > 0 else "cpu",
            # A workload may accept only the optimizers of its studies.
            optimizer=plan.arms[0].card.name,
            # Only a script has to know.
            budget="steps" if plan.workload.kind == "script" and plan.interval_steps else "epochs",
        )

    def carry_out(self, *, is_interrupted: Callable[[], bool]) -> None:
        """Check the workload, and store what is found.

        It stays due if it is interrupted. A check that crashes or hangs ends with a warning: it would
        otherwise hold the study up for ever, and trials report such faults too.

        Args:
            is_interrupted: returns whether to end at once.
        """
        # What is known holds for float32 and a loss without smoothing.
        has_settings = any(self._settings.values())
        known = None if has_settings else self._retry.persist(lambda: self._writer.known_check(self._version))
        found = self._check_on_worker(is_interrupted) if known is None else known
        if found is None:
            return
        if isinstance(found, str):
            results, is_new = (CheckResult("check", "warning", found),), False
        else:
            results, is_new = found, known is None and not has_settings
        failure = _failure(self._version.workload, results)
        checked = self._version if is_new and failure is None else None
        self._retry.persist(lambda: self._writer.record_check(results, checked=checked))
        self.failure = failure
        self.is_due = False

    def _check_on_worker(self, is_interrupted: Callable[[], bool]) -> tuple[CheckResult, ...] | str | None:
        """Return the results, why there are none, or None if it was interrupted."""
        cpus, gpus = self._resources.cpus_per_pack, self._resources.gpus_per_pack
        # The process ends after this one call.
        remote = _ray.remote(num_cpus=cpus, num_gpus=gpus, max_retries=0, max_calls=1)(results_on_worker)
        pending = remote.remote(
            asdict(self._version),
            packages=list(self._packages),
            versions=[version.model_dump() for version in self._versions.values()],
            cpus=cpus,
            within_s=self._within_s,
            settings=self._settings,
        )
        while not _ray.wait([pending], timeout=_POLL_S)[0]:
            if is_interrupted():
                _ray.cancel(pending, force=True)
                return None
        try:
            return tuple(CheckResult(**result) for result in _ray.get(pending))
        except RayError as error:
            _log.warning("the worker of the workload's check was lost: %s", error)
            return (
                f"expected the check to end within {duration(self._within_s)}, but its process crashed, was "
                "killed, or took longer; the study goes on without it"
            )


def _failure(workload: str, results: Sequence[CheckResult]) -> str | None:
    errors = [result for result in results if result.status == "error"]
    if not errors:
        return None
    others = f", and {plural(len(errors) - 1, 'other error')}" if len(errors) > 1 else ""
    return (
        f"the check of workload {workload!r} found an error before the first trial: {errors[0]}{others}; "
        "repair it and submit again, or set check_workload to false if the check is mistaken"
    )
