"""A pasted program trains a model to the same weights as the trial."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened
from torch import Tensor, nn

from studies.space import Parameters
from studies.training_program import training_program
from studies.training_settings import TrainingSettings
from workers.seeding import initialisation_seed, noise_seed, seeded
from workers.solo import Solo
from workers.training_tasks import training_task
from workers.workloads import configured

__all__: list[str] = []

MLP = WORKLOADS["digits-mlp"]
DATA = shortened(data_of(MLP), 200, 50)
SCHEDULES: list[dict[str, Any]] = [
    {"schedule": "constant"},
    {"schedule": "constant", "warmup_fraction": 0.2},
    {"schedule": "cosine"},
    {"schedule": "warmup-cosine"},
    {"schedule": "linear", "warmup_fraction": 0.1},
    {"schedule": "step", "step_drops": 3, "step_factor": 0.5},
    {"schedule": "one-cycle"},
    {"schedule": "wsd", "decay_fraction": 0.3},
    {"schedule": "warm-restarts", "cycles": 2, "cycle_growth": 1.5},
]
UPDATES: list[dict[str, Any]] = [
    {"clip_norm": 0.5, "clip_value": 0.05},
    {"accumulation_steps": 4},
    {"ema_decay": 0.8, "label_smoothing": 0.1},
    {"precision": "bf16", "accumulation_steps": 3, "decay_1d": False},
    {"precision": "fp16", "clip_norm": 0.5},
]
GROUPS: Parameters = {
    "groups.output.lr": 0.02,
    "groups.output.weight_decay": 0.3,
}


class Loader:
    """The batches of a trial, pass after pass."""

    def __init__(self, solo: Solo, settings: TrainingSettings) -> None:
        # Passes over the data do not end with intervals.
        whole = settings.model_copy(update={"accumulation_steps": 1})
        self._task = training_task(MLP, solo.model, data=DATA, seed=0, settings=whole, device=CPU)
        self._passes = 0

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        self._passes += 1
        for rows in self._task.batches(self._passes):
            yield DATA.train.inputs[rows], DATA.train.targets[rows]


def trained(
    optimizer: str,
    given: Parameters,
    settings: dict[str, Any],
    *,
    epochs: int,
    interval_steps: int | None,
    state: Tensor | None = None,
) -> tuple[Solo, dict[str, Any]]:
    """Return a trial that is trained, and the names of its program after it has run."""
    entry, one = OPTIMIZERS[optimizer], member(optimizer, given=given)
    pack = pack_of(
        MLP, optimizer, one, epochs=epochs, interval_steps=interval_steps, **{"batch_size": 32, **settings}
    )
    solo = Solo(one, pack=pack, workload=MLP, entry=entry, data=DATA, device=CPU)
    with seeded(initialisation_seed(one.seed), device=CPU):
        model = configured(MLP, one.parameters).build_model()
    for epoch in range(1, epochs + 1):
        solo.train_epoch(epoch)
    names: dict[str, Any] = {
        "model": model,
        "loader": Loader(solo, pack.settings_of(one)),
        "loss_of": MLP.loss,
        "groups": MLP.parameter_groups(model),
    }
    card = MLP.card.model_copy(update={"examples": {**MLP.card.examples, "train": 200}})
    code = training_program(
        entry.card, one.parameters, pack.training, workload=card, epochs=epochs, interval_steps=interval_steps
    )
    if state is not None:
        torch.set_rng_state(state)
    exec(code, names)
    return solo, names


def weights(model: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in model.parameters()])


@pytest.mark.parametrize(
    "settings", [*SCHEDULES, *UPDATES], ids=lambda given: "-".join(map(str, given.values()))
)
@pytest.mark.parametrize(("optimizer", "length"), [("adamp", (2, None)), ("muon", (3, 5))])
def test_a_program_trains_to_the_weights_of_the_trial(
    optimizer: str, settings: dict[str, Any], length: tuple[int, int | None]
) -> None:
    solo, names = trained(optimizer, {}, settings, epochs=length[0], interval_steps=length[1])
    assert torch.equal(weights(names["model"]), weights(solo.model))
    if "ema_decay" in settings:
        assert names["average"].module.state_dict().keys() == solo.weights().keys()
        assert all(
            torch.equal(mine, own)
            for mine, own in zip(
                names["average"].module.state_dict().values(), solo.weights().values(), strict=True
            )
        )


@pytest.mark.filterwarnings("ignore:Using backward:UserWarning")
@pytest.mark.parametrize("settings", [{}, {"clip_norm": 0.5, "accumulation_steps": 3}], ids=["plain", "more"])
@pytest.mark.parametrize("optimizer", ["sam-sgd", "sophia", "adahessian"])
def test_a_program_gives_an_optimizer_a_second_pass_or_derivative(
    optimizer: str, settings: dict[str, Any]
) -> None:
    """What optimizers draw at random is drawn anew in each epoch of a trial, so it has one."""
    one = member(optimizer)
    with seeded(noise_seed(one.seed, epoch=1), device=CPU):
        state = torch.get_rng_state()
    solo, names = trained(optimizer, {}, settings, epochs=1, interval_steps=None, state=state)
    assert torch.equal(weights(names["model"]), weights(solo.model))


def test_a_program_ends_at_the_weights_that_a_schedule_free_optimizer_evaluates() -> None:
    solo, names = trained("schedule-free-adamw", {}, {}, epochs=1, interval_steps=None)
    assert torch.equal(weights(names["model"]), weights(solo.model))


@pytest.mark.parametrize("optimizer", ["adamw", "adamp", "muon"])
def test_a_program_has_everything_that_the_trial_has_searched(optimizer: str) -> None:
    given: Parameters = {
        **GROUPS,
        "training.batch_size": 16,
        "training.schedule": "wsd",
        "training.clip_norm": 0.7,
        **({"adamw_lr": 0.03} if optimizer == "muon" else {"groups.output.beta1": 0.5}),
    }
    solo, names = trained(
        optimizer, given, {"decay_1d": False, "batch_size": 16}, epochs=2, interval_steps=None
    )
    assert torch.equal(weights(names["model"]), weights(solo.model))


def test_a_program_says_what_the_model_is_built_with_and_what_a_script_reads() -> None:
    card = OPTIMIZERS["adamw"].card
    parameters: Parameters = {**card.defaults, "workload.dropout": 0.25}
    settings = TrainingSettings(batch_size=32, schedule="cosine", clip_norm=1.0, ema_decay=0.9)

    def program(kind: str) -> str:
        workload = MLP.card.model_copy(update={"kind": kind})
        return training_program(card, parameters, settings, workload=workload, epochs=2, interval_steps=None)

    assert "#   model, built with dropout=0.25\n" in program("tensors")
    assert "loss = training_step(model, batch)\n" in program("loop")
    script = program("script")
    read = "batch_size=32, clip_norm=1.0, ema_decay=0.9, workload.dropout=0.25"
    assert f"# The script reads: {read}\n" in script
    assert "\n# If the script calls trial.optimizer:\noptimizer = " in script
    assert "\n# If the script calls trial.scheduler:\nsteps = " in script
    assert script.endswith("scheduler = LambdaLR(optimizer, factor)\n")
    settings = settings.model_copy(update={"schedule": "constant"})
    assert "scheduler" not in program("script")
