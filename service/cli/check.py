"""`tangent check`: find the mistakes of a workload in seconds, without a service."""

__all__ = ["check"]

import importlib.util
import os
import sys
from typing import Annotated, Literal, NoReturn

import typer

from service.cli.errors import CommandError
from service.cli.output import AsJson

Target = Annotated[
    str,
    typer.Argument(
        metavar="WORKLOAD",
        help="PACKAGE:NAME of a workload's class or instance, or the name of an installed one.",
    ),
]
Device = Annotated[Literal["cpu", "cuda"], typer.Option(help="Where to train.")]
Steps = Annotated[bool, typer.Option("--steps", help="Give a script a budget of steps, instead of epochs.")]
Optimizer = Annotated[str, typer.Option(metavar="NAME", help="What to train with, at its defaults.")]


def check(
    target: Target,
    *,
    optimizer: Optimizer = "adamp",
    device: Device = "cpu",
    steps: Steps = False,
    as_json: AsJson = False,
) -> NoReturn:
    """Check a workload: its data, model, loss and metric, and a few steps of training.

    Needs the extra `workers`, but no service. Exits with 1 if there are errors.
    """
    if importlib.util.find_spec("torch") is None:
        raise CommandError("torch is not installed; run `pip install 'tangent-studies[workers]'`")
    options = [f"--optimizer={optimizer}", f"--device={device}"]
    options += [*(["--steps"] if steps else []), *(["--json"] if as_json else [])]
    # -P keeps the current folder off the import path, as in a worker. No shell is involved.
    os.execv(sys.executable, [sys.executable, "-P", "-m", "workers.workload_check", target, *options])  # noqa: S606
