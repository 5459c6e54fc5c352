"""What users of Tangent import: the client, and what a package of their own optimizers and workloads needs.

Each name is loaded on first use, so importing this package is quick and loads neither torch nor Ray.

    from tangent import Client

    with Client("http://127.0.0.1:8780") as client:
        study = client.submit("study.yaml")
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from service.client import Client, ProblemError, ServiceUnreachable
    from service.client_arguments import ArgumentInvalid
    from service.documents import DocumentInvalid
    from studies.catalog import (
        Bounds,
        Constraint,
        Containment,
        Hyperparameter,
        MetricCard,
        OptimizerCard,
        PublishedResult,
        WorkloadCard,
    )
    from studies.errors import SpecInvalid, TangentError
    from studies.recipe import arguments
    from studies.space import Choices, Condition, Fixed, Parameters, Range
    from studies.spec import StudySpec
    from workers.optimizers import OptimizerEntry
    from workers.optimizers.batched.optimizer import StackedOptimizer
    from workers.script.command_client import CommandTrial
    from workers.script.program import trial
    from workers.script.trainers import fit_lightning, train_transformers
    from workers.script.trial import Trial
    from workers.weights import load_weights
    from workers.workloads import (
        CommandWorkload,
        Data,
        LoopWorkload,
        ScriptWorkload,
        Split,
        TensorWorkload,
        Workload,
        to_device,
    )
    from workers.workloads.requirements import data_folder, missing_extra, missing_files

__all__ = [
    "ArgumentInvalid",
    "Bounds",
    "Choices",
    "Client",
    "CommandTrial",
    "CommandWorkload",
    "Condition",
    "Constraint",
    "Containment",
    "Data",
    "DocumentInvalid",
    "Fixed",
    "Hyperparameter",
    "LoopWorkload",
    "MetricCard",
    "OptimizerCard",
    "OptimizerEntry",
    "Parameters",
    "ProblemError",
    "PublishedResult",
    "Range",
    "ScriptWorkload",
    "ServiceUnreachable",
    "SpecInvalid",
    "Split",
    "StackedOptimizer",
    "StudySpec",
    "TangentError",
    "TensorWorkload",
    "Trial",
    "Workload",
    "WorkloadCard",
    "arguments",
    "data_folder",
    "fit_lightning",
    "load_weights",
    "missing_extra",
    "missing_files",
    "to_device",
    "train_transformers",
    "trial",
]

# The names of each module, and the extra of the distribution that the module needs.
_MODULES: Final[dict[str, tuple[str | None, tuple[str, ...]]]] = {
    "service.client": ("service", ("Client", "ProblemError", "ServiceUnreachable")),
    "service.client_arguments": ("service", ("ArgumentInvalid",)),
    "service.documents": ("service", ("DocumentInvalid",)),
    "studies.catalog": (
        None,
        (
            "Bounds",
            "Constraint",
            "Containment",
            "Hyperparameter",
            "MetricCard",
            "OptimizerCard",
            "PublishedResult",
            "WorkloadCard",
        ),
    ),
    "studies.errors": (None, ("SpecInvalid", "TangentError")),
    "studies.recipe": (None, ("arguments",)),
    "studies.space": (None, ("Choices", "Condition", "Fixed", "Parameters", "Range")),
    "studies.spec": (None, ("StudySpec",)),
    "workers.optimizers": ("workers", ("OptimizerEntry",)),
    "workers.optimizers.batched.optimizer": ("workers", ("StackedOptimizer",)),
    "workers.script.command_client": (None, ("CommandTrial",)),
    "workers.script.program": ("workers", ("trial",)),
    "workers.script.trainers": ("workers", ("fit_lightning", "train_transformers")),
    "workers.script.trial": ("workers", ("Trial",)),
    "workers.weights": ("workers", ("load_weights",)),
    "workers.workloads.requirements": ("workers", ("data_folder", "missing_extra", "missing_files")),
    "workers.workloads": (
        "workers",
        (
            "CommandWorkload",
            "Data",
            "LoopWorkload",
            "ScriptWorkload",
            "Split",
            "TensorWorkload",
            "Workload",
            "to_device",
        ),
    ),
}


def __getattr__(name: str) -> Any:
    for module, (extra, names) in _MODULES.items():
        if name in names:
            try:
                found = getattr(import_module(module), name)
            except ModuleNotFoundError as error:
                if extra is None or error.name is None or error.name.startswith(("service", "workers")):
                    raise
                raise ImportError(
                    f"tangent.{name} needs the package {error.name!r}, which is not installed; run "
                    f"`pip install 'tangent-studies[{extra}]'`"
                ) from error
            globals()[name] = found
            return found
    raise AttributeError(f"module 'tangent' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
