"""Scripts with a trainer of Lightning or Hugging Face: its budget, metrics and checkpoints are a trial's."""

import importlib
from pathlib import Path
from typing import Any

import pytest
from packs import CPU, OPTIMIZERS, outcome_of
from torch import nn

from studies.training_settings import TrainingSettings
from workers.pack_protocol import EpochReport, Keeping, Member, Pack
from workers.script.trial import Trial
from workers.tensor_states import bytes_of
from workers.training import train_pack
from workers.weights import load_weights
from workers.workloads import ScriptWorkload

__all__: list[str] = []

# The libraries warn about their own code.
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore")]
JOBS = Path(__file__).parents[2] / "examples" / "jobs"
SCRIPTS = {
    "accelerate": ("tangent_jobs.with_accelerate", "AccelerateDigits"),
    "lightning": ("tangent_jobs.with_lightning", "LightningDigits"),
    "transformers": ("tangent_jobs.with_transformers", "TransformersDigits"),
}


@pytest.fixture(params=SCRIPTS)
def script(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> ScriptWorkload:
    """One of the jobs with a trainer."""
    pytest.importorskip(request.param)
    monkeypatch.syspath_prepend(str(JOBS))
    module, name = SCRIPTS[request.param]
    return getattr(importlib.import_module(module), name)()


def trained(script: ScriptWorkload, folder: Path, *, to: int, after: EpochReport | None = None) -> list[Any]:
    """Train a trial of three epochs up to one of them."""
    member = Member(
        trial_id="study.adamw.c0",
        keep_weights="best",
        attempt=1,
        parameters=OPTIMIZERS["adamw"].card.defaults | {"lr": 3e-3},
        seed=3,
        checkpoint=after.members[0].checkpoint if after is not None else None,
    )
    pack = Pack(
        pack_id="pack",
        workload=script.card.name,
        optimizer="adamw",
        members=(member,),
        from_epoch=after.epoch if after is not None else 0,
        to_epoch=to,
        epochs=3,
        training=TrainingSettings(batch_size=32, schedule="cosine"),
        maximize=True,
        checkpoints=str(folder),
        keeping=Keeping(folder=str(folder), max_weights_bytes=10**8),
    )
    return list(train_pack(pack, workload=script, entry=OPTIMIZERS["adamw"], data=None, device=CPU))


def values(reports: list[EpochReport]) -> list[tuple[float | None, float | None]]:
    measured = [report.members[0].measurement for report in reports]
    return [(one.validation_metric, one.validation_loss) for one in measured]


def test_a_trial_has_the_epochs_schedule_and_test_value_of_its_study_and_keeps_its_weights(
    script: ScriptWorkload, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    models: list[nn.Module] = []
    optimizer = Trial.optimizer
    monkeypatch.setattr(
        Trial, "optimizer", lambda self, model: (models.append(model), optimizer(self, model))[1]
    )
    reports = trained(script, tmp_path, to=3)
    assert [report.epoch for report in reports] == [1, 2, 3]
    learning_rates = [report.members[0].measurement.lr for report in reports]
    assert learning_rates == sorted(learning_rates, reverse=True), "a cosine falls"
    assert learning_rates[-1] < 1e-4
    outcome = outcome_of(reports, "study.adamw.c0")
    assert outcome.test_value is not None
    assert outcome.test_value > 0.3, "ten classes: chance is 0.1"
    assert None not in [loss for _, loss in values(reports)]
    (kept,) = reports[-1].members[0].kept
    saved = load_weights(tmp_path / kept.id)["model"]
    models[0].load_state_dict(saved)
    assert kept.size < 1.2 * bytes_of(saved) + 20_000, "nothing beside the model"


def test_a_trial_that_pauses_at_a_rung_continues_as_if_it_had_not(
    script: ScriptWorkload, tmp_path: Path
) -> None:
    whole = trained(script, tmp_path / "whole", to=3)
    begun = trained(script, tmp_path / "parts", to=1)
    continued = trained(script, tmp_path / "parts", to=3, after=begun[-1])
    assert [report.epoch for report in continued] == [2, 3]
    assert values(begun) + values(continued) == values(whole)
