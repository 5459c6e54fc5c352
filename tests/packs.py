"""Short ways to write packs and to read what their members measured."""

__all__ = [
    "CPU",
    "OPTIMIZERS",
    "WORKLOADS",
    "data_of",
    "first",
    "member",
    "outcome_of",
    "pack_of",
    "rungs",
    "shortened",
    "story",
    "train",
]

import functools
from pathlib import Path
from typing import Any

import torch

from studies.space import Parameters, Scalar
from studies.training_settings import TrainingSettings
from studies.trials import Measurement
from workers.optimizers import load_optimizers
from workers.pack_protocol import EpochReport, Member, Outcome, Pack
from workers.stacked.width_tuning import WidthTuner
from workers.training import train_pack
from workers.workloads import Data, Split, TensorWorkload, builtin_tensor_workloads

CPU = torch.device("cpu")
WORKLOADS = builtin_tensor_workloads()
OPTIMIZERS = load_optimizers()


@functools.cache
def data_of(workload: TensorWorkload) -> Data:
    """Return a workload's data, loaded once."""
    return workload.load_data(CPU)


def first(split: Split, examples: int) -> Split:
    """Return a split's first examples."""
    return Split(inputs=split.inputs[:examples], targets=split.targets[:examples])


def shortened(data: Data, train: int, rest: int) -> Data:
    """Return the first examples of each split."""
    return Data(
        train=first(data.train, train), validation=first(data.validation, rest), test=first(data.test, rest)
    )


def member(
    optimizer: str,
    trial_id: str = "t",
    *,
    seed: int = 0,
    given: Parameters | None = None,
    **parameters: Scalar,
) -> Member:
    """Return a member with the optimizer's defaults, except for the given values."""
    return Member(
        trial_id=trial_id,
        attempt=1,
        parameters={**OPTIMIZERS[optimizer].card.defaults, **(given or {}), **parameters},
        seed=seed,
    )


def pack_of(
    workload: TensorWorkload, optimizer: str, *members: Member, epochs: int = 2, **settings: Any
) -> Pack:
    """Return a pack of complete trials, trained one by one unless the settings give another width.

    Settings are fields of the pack or of its training.
    """
    given = {
        "pack_id": "p",
        "workload": workload.card.name,
        "optimizer": optimizer,
        "members": members,
        "from_epoch": 0,
        "to_epoch": epochs,
        "epochs": epochs,
        "maximize": workload.card.direction == "maximize",
        "width": 1,
    }
    training = {name: settings.pop(name) for name in TrainingSettings.model_fields if name in settings}
    given["training"] = {"batch_size": workload.card.batch_size, **training}
    return Pack.model_validate({**given, **settings})


def train(
    pack: Pack,
    workload: TensorWorkload | None = None,
    data: Data | None = None,
    *,
    tuner: WidthTuner | None = None,
) -> list[EpochReport]:
    """Return all reports of a pack."""
    workload = workload or WORKLOADS[pack.workload]
    return list(
        train_pack(
            pack,
            workload=workload,
            entry=OPTIMIZERS[pack.optimizer],
            data=data or data_of(workload),
            device=CPU,
            tuner=tuner,
        )
    )


def rungs(
    pack: Pack, folder: Path, *epochs: int, workload: TensorWorkload | None = None, data: Data | None = None
) -> list[EpochReport]:
    """Return the reports of a pack that stops at these epochs and continues with the remaining members."""
    reports: list[EpochReport] = []
    members, done = pack.members, 0
    for to_epoch in (*epochs, pack.epochs):
        part = {
            **pack.model_dump(),
            "members": members,
            "from_epoch": done,
            "to_epoch": to_epoch,
            "checkpoints": str(folder),
        }
        reports += train(Pack.model_validate(part), workload, data)
        left = {
            report.trial_id: report.checkpoint for report in reports[-1].members if report.outcome is None
        }
        members, done = (
            tuple(
                m.model_copy(update={"checkpoint": left[m.trial_id]}) for m in members if m.trial_id in left
            ),
            to_epoch,
        )
        if not members:
            break
    return reports


def story(reports: list[EpochReport], trial_id: str = "t") -> list[tuple[Measurement, Outcome | None]]:
    """Return a member's measurements without times, which differ between runs."""
    parts = [part for report in reports for part in report.members if part.trial_id == trial_id]
    return [(part.measurement.model_copy(update={"elapsed_s": 0.0}), part.outcome) for part in parts]


def outcome_of(reports: list[EpochReport], trial_id: str = "t") -> Outcome:
    """Return the outcome of a member, which has exactly one."""
    outcomes = [outcome for _, outcome in story(reports, trial_id) if outcome is not None]
    assert len(outcomes) == 1
    return outcomes[0]
