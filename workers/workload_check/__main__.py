"""`python -m workers.workload_check TARGET`: print the results about a workload, as `tangent check` does."""

__all__ = ["main"]

import argparse
import contextlib
import importlib
import json
import os
import signal
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, TextIO

import torch

from studies.control_characters import strip_controls
from studies.process_tree import adopt_orphans
from studies.standard_error import write_line
from studies.trials import CheckResult
from workers.optimizers import OptimizerEntry, load_optimizers
from workers.packages import use_packages
from workers.workload_check.checks import check_workload
from workers.workload_errors import innermost_place
from workers.workloads import AnyWorkload, load_workloads

_BAD_TARGET = 2


class _TargetInvalid(ValueError):
    """There is no workload at the target."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the results, and return 0 without errors, 1 with errors, and 2 if there is no such workload."""
    parser = argparse.ArgumentParser(prog="python -m workers.workload_check")
    parser.add_argument("target")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--optimizer", default="adamp")
    parser.add_argument("--steps", action="store_true")
    parser.add_argument("--json", action="store_true")
    given = parser.parse_args(arguments)
    # What the workload's own code prints must not mix with the results.
    output = sys.stdout
    with contextlib.redirect_stdout(sys.stderr):
        return _check(given, output)


def _check(given: argparse.Namespace, output: TextIO) -> int:
    use_packages(os.environ.get("TANGENT_PACKAGES", "").split(os.pathsep))
    try:
        workload, device = _workload(given.target), _device(given.device)
        entry = _optimizer(given.optimizer)
    except _TargetInvalid as error:
        write_line(f"error: {error}")
        return _BAD_TARGET
    # As in a worker with one core. What a command has started ends with its trial.
    adopt_orphans()
    torch.set_num_threads(1)
    results: list[CheckResult] = []
    for result in check_workload(workload, device=device, entry=entry, in_steps=given.steps):
        results.append(result)
        if not given.json:
            place = f" ({result.where})" if result.where else ""
            line = f"{result.status:<8} {result.check}: {result.sentence}{place}"
            output.write(strip_controls(line).replace("\N{NO-BREAK SPACE}", " ") + "\n")
            output.flush()
    if given.json:
        shown = {"workload": workload.card.name, "results": [asdict(result) for result in results]}
        output.write(json.dumps(shown, indent=2) + "\n")
    return 1 if any(result.status == "error" for result in results) else 0


def _device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise _TargetInvalid("expected a GPU that torch can use for --device cuda, found none")
    return torch.device("cuda:0" if name == "cuda" else "cpu")


def _optimizer(name: str) -> OptimizerEntry:
    installed = load_optimizers()
    if name not in installed:
        raise _TargetInvalid(
            f"expected the name of an installed optimizer, got {name!r}; installed: {', '.join(installed)}"
        )
    return installed[name]


def _workload(target: str) -> AnyWorkload:
    """Return the workload of a name in the catalogue, or at PACKAGE:NAME."""
    if ":" not in target:
        installed = load_workloads()
        if target not in installed:
            raise _TargetInvalid(
                f"expected the name of an installed workload or PACKAGE:NAME, got {target!r}; installed: "
                f"{', '.join(installed)}"
            )
        return installed[target]
    module, _, name = target.partition(":")
    try:
        found: Any = getattr(importlib.import_module(module), name)
        workload = found() if isinstance(found, type) else found
    # Importing a user's module may raise anything, and may even exit.
    except (Exception, SystemExit) as error:
        raise _TargetInvalid(
            f"cannot load {target}: {type(error).__name__}: {error}; {_advice(error, module, name)}"
        ) from error
    if not isinstance(workload, AnyWorkload):
        raise _TargetInvalid(
            f"expected {target} to be a TensorWorkload, a LoopWorkload or a ScriptWorkload, got "
            f"{type(workload).__name__}"
        )
    return workload


def _advice(error: BaseException, module: str, name: str) -> str:
    if isinstance(error, ModuleNotFoundError) and error.name in (module, module.partition(".")[0]):
        return "name a workload in an installed module, or in one in a folder that TANGENT_PACKAGES names"
    if isinstance(error, AttributeError) and error.name == name:
        return "name a class or an instance in this module"
    place = innermost_place(error)
    return f"repair {place}" if place else f"repair {module}"


if __name__ == "__main__":
    # As other programs do when the reader of a pipe ends early (`tangent check ... | head`).
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    # What programs that the workload starts print must not mix with the results either.
    sys.stdout = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    sys.exit(main())
