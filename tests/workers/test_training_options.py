"""Each option of the loop does what the same loop does that is written by hand with torch."""

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, rungs, shortened, story, train
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import clip_grad_norm_, clip_grad_value_
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from studies.catalog import Hyperparameter
from studies.space import Parameters, Scalar
from studies.training_settings import PREFIX, TRAINING_HYPERPARAMETERS, TrainingSettings, must_share
from workers.batch_order import BatchOrder
from workers.checkpoints import load
from workers.optimizers import build_optimizer
from workers.seeding import epoch_order, initialisation_seed, seeded
from workers.stacked.clipping import Clipping
from workers.stacked.engine import StackedEngine
from workers.stacked.equivalence_check import why_not_stackable
from workers.stacked.stack import Stack
from workers.training import OneByOneEngine, train_pack
from workers.workload_errors import CannotTrain
from workers.workloads import Data, TensorWorkload
from workers.workloads.digits import DigitsCnn

__all__: list[str] = []

MLP, CNN = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"]
SIZE, EPOCHS = 16, 2
OPTIONS: dict[str, dict[str, Any]] = {
    "norm": {"clip_norm": 0.5},
    "value": {"clip_value": 0.01},
    "both": {"clip_norm": 0.1, "clip_value": 0.01},
    "accumulation": {"accumulation_steps": 3},
    "average": {"ema_decay": 0.8},
    "smoothing": {"label_smoothing": 0.2},
    "bf16": {"precision": "bf16"},
    "fp16": {"precision": "fp16", "clip_norm": 0.5, "accumulation_steps": 2, "ema_decay": 0.8},
    "all": {
        "clip_norm": 0.5,
        "clip_value": 0.05,
        "accumulation_steps": 2,
        "ema_decay": 0.5,
        "label_smoothing": 0.1,
    },
}


def data(workload: TensorWorkload = CNN) -> Data:
    # A last batch and a last step that are not full.
    return shortened(data_of(workload), 7 * SIZE + 3, 40)


def by_hand(workload: TensorWorkload, settings: TrainingSettings, *, lr: float) -> list[tuple[float, float]]:
    """Return training and validation losses of each epoch."""
    with seeded(initialisation_seed(0), device=CPU):
        model = workload.build_model()
    optimizer = build_optimizer(
        OPTIMIZERS["adamw"], model, {**OPTIMIZERS["adamw"].card.defaults, "lr": lr}, decay_1d=True
    )
    averaged = AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn(settings.ema_decay))
    train_split, validation = data(workload).train, data(workload).validation
    per_step = settings.accumulation_steps * SIZE
    dtype = torch.float16 if settings.precision == "fp16" else torch.bfloat16
    autocast = torch.autocast("cpu", dtype, enabled=settings.precision != "float32")
    scaler = torch.amp.GradScaler("cpu", enabled=settings.precision == "fp16")
    found: list[tuple[float, float]] = []
    for epoch in range(1, EPOCHS + 1):
        model.train()
        losses: list[float] = []
        order = epoch_order(0, epoch=epoch, examples=len(train_split))
        for rows in order[: len(order) // per_step * per_step].view(-1, per_step):
            total = 0.0
            for batch in rows.split(SIZE):
                with autocast:
                    loss = functional.cross_entropy(
                        model(train_split.inputs[batch]),
                        train_split.targets[batch],
                        label_smoothing=settings.label_smoothing,
                    )
                scaler.scale(loss / settings.accumulation_steps).backward()
                total += loss.item() / settings.accumulation_steps
            scaler.unscale_(optimizer)
            if settings.clip_value:
                clip_grad_value_(model.parameters(), settings.clip_value)
            if settings.clip_norm:
                clip_grad_norm_(model.parameters(), settings.clip_norm)
            scaler.step(optimizer)
            scaler.update()
            optimizer.zero_grad()
            averaged.update_parameters(model)
            losses.append(total)
        evaluated = (averaged.module if settings.ema_decay else model).eval()
        with torch.no_grad(), autocast:
            validated = functional.cross_entropy(evaluated(validation.inputs), validation.targets).item()
        found.append((sum(losses) / len(losses), validated))
    return found


@pytest.mark.parametrize("option", OPTIONS)
def test_an_option_is_what_torch_does_by_hand(option: str) -> None:
    pack = pack_of(CNN, "adamw", member("adamw", lr=0.01), epochs=EPOCHS, batch_size=SIZE, **OPTIONS[option])
    expected = by_hand(CNN, pack.training, lr=0.01)
    found = [(each.train_loss, each.validation_loss) for each, _ in story(train(pack, data=data()))]
    for mine, theirs in zip(found, expected, strict=True):
        assert mine == pytest.approx(theirs, rel=1e-5)
    plain = pack.model_copy(update={"training": TrainingSettings(batch_size=SIZE)})
    assert found != [(each.train_loss, each.validation_loss) for each, _ in story(train(plain, data=data()))]


@pytest.mark.parametrize("option", [name for name, each in OPTIONS.items() if "precision" not in each])
def test_a_stack_does_it_for_each_row(option: str) -> None:
    members = [member("adamp", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]
    pack = pack_of(CNN, "adamp", *members, epochs=EPOCHS, batch_size=SIZE, **OPTIONS[option])
    assert why_not_stackable(pack, workload=CNN, entry=OPTIMIZERS["adamp"], data=data(), device=CPU) is None
    alone, stacked = train(pack, data=data()), train(pack.model_copy(update={"width": 2}), data=data())
    for n in range(2):
        for (mine, _), (theirs, _) in zip(story(stacked, str(n)), story(alone, str(n)), strict=True):
            assert mine.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-3)
            assert mine.train_loss == pytest.approx(theirs.train_loss, rel=1e-3)


@pytest.mark.parametrize(
    ("setting", "broken"), [("clip_norm", (Clipping, "apply")), ("ema_decay", (Stack, "_move_average"))]
)
def test_the_equivalence_check_trains_with_what_members_have_for_themselves(
    setting: str, broken: tuple[type, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    members = [
        member("sgd", str(n), given={f"training.{setting}": value})
        for n, value in enumerate((0.0, 0.01, 0.5))
    ]
    pack, sgd = pack_of(MLP, "sgd", *members, epochs=1, batch_size=SIZE), OPTIMIZERS["sgd"]
    assert why_not_stackable(pack, workload=MLP, entry=sgd, data=data(MLP), device=CPU) is None
    monkeypatch.setattr(*broken, lambda *_, **__: None)
    reason = why_not_stackable(pack, workload=MLP, entry=sgd, data=data(MLP), device=CPU)
    assert "differs from each trained alone" in str(reason)


def test_mixed_precision_is_trained_one_by_one_with_the_reason() -> None:
    members = [member("adamp", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]
    pack = pack_of(MLP, "adamp", *members, epochs=1, batch_size=SIZE, precision="bf16", width=2)
    width = train(pack, data=data(MLP))[0].stack_width
    assert width is not None
    assert width.width == 1
    assert "bf16" in str(width.reason)


@pytest.mark.parametrize("width", [1, 2])
def test_options_resume_bit_for_bit(width: int, tmp_path: Path) -> None:
    members = [member("adamp", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]
    pack = pack_of(
        CNN, "adamp", *members, epochs=4, batch_size=SIZE, width=width, schedule="wsd", **OPTIONS["all"]
    )
    whole, parts = train(pack, data=data()), rungs(pack, tmp_path, 1, 3, data=data())
    assert [story(whole, str(n)) for n in range(2)] == [story(parts, str(n)) for n in range(2)]


def test_a_trial_continues_alone_what_a_stack_has_begun(tmp_path: Path) -> None:
    members = [member("adamp", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]
    pack = pack_of(CNN, "adamp", *members, epochs=4, batch_size=SIZE, width=2, **OPTIONS["all"])
    begun = train(pack.model_copy(update={"to_epoch": 2, "checkpoints": str(tmp_path)}), data=data())
    rest = pack.model_copy(
        update={
            "from_epoch": 2,
            "width": 1,
            "members": tuple(
                each.model_copy(update={"checkpoint": report.checkpoint})
                for each, report in zip(members, begun[-1].members, strict=True)
            ),
        }
    )
    whole, continued = story(train(pack, data=data()), "0")[2:], story(train(rest, data=data()), "0")
    for (mine, _), (theirs, _) in zip(continued, whole, strict=True):
        assert mine.validation_loss == pytest.approx(theirs.validation_loss, rel=1e-3)


CHANGES: dict[str, tuple[Scalar, dict[str, Any]]] = {
    "batch_size": (12, {}),
    "schedule": ("linear", {}),
    "warmup_fraction": (0.5, {}),
    "step_drops": (3, {"schedule": "step"}),
    "step_factor": (0.3, {"schedule": "step"}),
    "decay_fraction": (0.8, {"schedule": "wsd"}),
    "cycles": (2, {"schedule": "warm-restarts"}),
    "cycle_growth": (1.0, {"schedule": "warm-restarts"}),
    "decay_1d": (False, {}),
    "clip_norm": (0.1, {}),
    "clip_value": (0.01, {}),
    "accumulation_steps": (2, {}),
    "ema_decay": (0.5, {}),
    "label_smoothing": (0.1, {}),
    "precision": ("bf16", {}),
}
"""Another value of each setting, and those without which it has no effect."""


@pytest.mark.parametrize("card", TRAINING_HYPERPARAMETERS, ids=lambda card: card.name)
@pytest.mark.parametrize("width", [1, 2])
def test_no_setting_is_ignored_whether_it_is_fixed_or_a_trials_own(card: Hyperparameter, width: int) -> None:
    name = card.name.removeprefix(PREFIX)
    value, base = CHANGES[name]

    def trained(given: Parameters, **settings: Any) -> list[tuple[float | None, ...]]:
        members = [
            member("adamw", str(n), lr=lr, given={**given, "weight_decay": 0.1})
            for n, lr in enumerate((0.01, 0.003))
        ]
        pack = pack_of(
            MLP, "adamw", *members, epochs=1, width=width, **{"batch_size": SIZE, **base, **settings}
        )
        results = [story(train(pack, data=data(MLP)), str(n))[-1][0] for n in range(2)]
        return [(each.train_loss, each.validation_loss, each.weight_norm) for each in results]

    plain, fixed = trained({}), trained({}, **{name: value})
    assert all(mine != other for mine, other in zip(fixed, plain, strict=True))
    # What trials of a pack must share is among its own settings too.
    shared = {name: value} if must_share({card.name: value}) else {}
    assert trained({card.name: value}, **shared) == fixed


def test_each_row_has_its_own_limits() -> None:
    limits = [(0.0, 0.0), (0.5, 0.0), (0.0, 0.2), (1.0, 0.3)]
    settings = [TrainingSettings(batch_size=1, clip_norm=norm, clip_value=value) for norm, value in limits]
    grads = torch.randn(4, 30, generator=torch.Generator().manual_seed(0))
    expected: list[Tensor] = []
    for row, (norm, value) in zip(grads.clone(), limits, strict=True):
        weight = nn.Parameter(torch.zeros(30))
        weight.grad = row
        if value:
            clip_grad_value_([weight], value)
        if norm:
            clip_grad_norm_([weight], norm)
        expected.append(weight.grad)
    Clipping(settings, device=CPU, dtype=torch.float32).apply(grads)
    torch.testing.assert_close(grads, torch.stack(expected))


def test_a_loss_without_label_smoothing_is_named() -> None:
    toy = WORKLOADS["rosenbrock-3d"]
    with pytest.raises(CannotTrain) as raised:
        train(pack_of(toy, "adamw", member("adamw"), epochs=1, label_smoothing=0.1))
    assert raised.value.function == toy.loss


def test_a_step_whose_float16_gradients_overflow_is_left_out_and_not_probed(tmp_path: Path) -> None:
    class Steep(DigitsCnn):
        """Its gradients overflow at the scale with which a scaler starts, until that has been halved."""

        def loss(self, outputs: Tensor, targets: Tensor, *, label_smoothing: float = 0.0) -> Tensor:
            return 30.0 * super().loss(outputs, targets, label_smoothing=label_smoothing)

    pack = pack_of(CNN, "adamp", member("adamp", lr=0.001), epochs=2, batch_size=SIZE, precision="fp16")
    whole = train_pack(pack, workload=Steep(), entry=OPTIMIZERS["adamp"], data=data(), device=CPU)
    folder = pack.model_copy(update={"to_epoch": 1, "checkpoints": str(tmp_path)})
    [begun] = train_pack(folder, workload=Steep(), entry=OPTIMIZERS["adamp"], data=data(), device=CPU)
    state = load(str(begun.members[0].checkpoint))
    steps = {float(each["step"]) for each in state["optimizer"]["state"].values()}
    skipped = round(math.log2(65536 / state["update"]["scaler"]["scale"]))
    assert skipped > 0
    assert steps == {7 - skipped}
    assert all(each.members[0].measurement.gradient_cosine is not None for each in whole)


def test_an_epoch_has_only_full_batches_and_full_steps() -> None:
    order = BatchOrder(examples=35, batch_size=4, accumulation_steps=3, interval_steps=None)
    rows = order.rows(7, epoch=2)
    assert (order.steps, rows.shape) == (2, (6, 4))
    assert torch.equal(rows.flatten(), epoch_order(7, epoch=2, examples=35)[:24])


@pytest.mark.parametrize("width", [1, 2])
@pytest.mark.parametrize("objective", ["accuracy", "accuracy (EMA)"])
def test_average_weights_are_evaluated_beside_the_weights(objective: str, width: int) -> None:
    members = [member("adamw", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]

    def last(**settings: Any) -> tuple[dict[str, float | None], ...]:
        """Return the last epoch's validation values and the test values of the first member, by name."""
        pack = pack_of(MLP, "adamw", *members, epochs=2, batch_size=SIZE, width=width, **settings)
        measured, outcome = story(train(pack, data=data(MLP)), "0")[-1]
        assert outcome is not None
        name = pack.objective_metric or "accuracy"
        return (
            {name: measured.validation_metric, **measured.metrics, "loss": measured.validation_loss},
            {name: outcome.test_value, **outcome.test_metrics},
        )

    plain, averaged = last(), last(ema_decay=0.8)
    both = last(ema_decay=0.8, ema_evaluation="beside", objective_metric=objective)
    counted = averaged if objective == "accuracy (EMA)" else plain
    for values, own, average in zip(both, plain, averaged, strict=True):
        assert (values["accuracy"], values["accuracy (EMA)"]) == (own["accuracy"], average["accuracy"])
    assert both[0]["loss"] == counted[0]["loss"]
    assert plain[0] != averaged[0]
    alike = last(ema_evaluation="beside", objective_metric=objective)
    assert alike[0]["accuracy"] == alike[0]["accuracy (EMA)"] == plain[0]["accuracy"]


@pytest.mark.parametrize("width", [1, 2])
def test_the_weights_that_are_kept_are_the_average_that_was_evaluated(width: int) -> None:
    members = [member("adamw", str(n), lr=lr) for n, lr in enumerate((0.01, 0.003))]
    pack = pack_of(CNN, "adamw", *members, epochs=1, batch_size=SIZE, ema_decay=0.8)
    engine: OneByOneEngine | StackedEngine = (
        OneByOneEngine(
            pack, workload=CNN, entry=OPTIMIZERS["adamw"], data=data(), device=CPU, states=[None, None]
        )
        if width == 1
        else StackedEngine(
            pack,
            workload=CNN,
            entry=OPTIMIZERS["adamw"],
            data=data(),
            device=CPU,
            states=[None, None],
            width=2,
        )
    )
    result = engine.train_epoch(1, alive=[0, 1])[1]
    kept, trained = dict(engine.weights(1)), engine.checkpoint(1)["model"]
    model = CNN.build_model()
    model.load_state_dict(kept)
    model.eval()
    with torch.no_grad():
        loss = functional.cross_entropy(model(data().validation.inputs), data().validation.targets)
    assert loss.item() == pytest.approx(result.validation_loss, rel=1e-4)
    assert not torch.equal(kept["0.weight"], trained["0.weight"])
