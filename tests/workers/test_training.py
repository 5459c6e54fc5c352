"""The training loop: a member's results are finite, correct, and depend only on its parameters and seed."""

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, outcome_of, pack_of, shortened, story, train
from torch import Tensor, nn
from torch.nn import functional

from studies.space import Parameters
from studies.training_settings import TrainingSettings
from workers.optimizers.registry import ParameterGroup
from workers.pack_protocol import EpochReport
from workers.results import EpochResult
from workers.schedules import factor
from workers.seeding import epoch_order
from workers.solo import Solo
from workers.training import train_pack
from workers.workloads import Data, TensorWorkload

__all__: list[str] = []


pytestmark = pytest.mark.usefixtures("one_thread")

MLP, CNN, TOY = WORKLOADS["digits-mlp"], WORKLOADS["digits-cnn"], WORKLOADS["antipode-2d"]


def test_the_same_pack_twice_is_bitwise_equal() -> None:
    pack = pack_of(CNN, "adamp", member("adamp"))
    assert story(train(pack)) == story(train(pack))


def test_a_member_gets_the_same_result_alone_and_in_a_pack() -> None:
    first, second = member("sgdp", "a", seed=1, lr=0.05), member("sgdp", "b", seed=2, lr=0.2)
    alone = train(pack_of(CNN, "sgdp", first))
    for members in ((first, second), (second, first)):
        assert story(train(pack_of(CNN, "sgdp", *members)), "a") == story(alone, "a")


def test_training_neither_reads_nor_changes_the_callers_generator() -> None:
    pack = pack_of(MLP, "adamw", member("adamw"))
    torch.manual_seed(1)
    before, first = torch.get_rng_state(), story(train(pack))
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert story(train(pack)) == first


class Restless(TensorWorkload):
    """A workload whose model also draws random numbers during evaluation."""

    card = WORKLOADS["digits-mlp"].card

    def load_data(self, device: torch.device) -> Data:
        return data_of(MLP).to(device)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), AlwaysDropping(), nn.Linear(64, 10))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return MLP.loss(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return MLP.metric_sum(outputs, targets)


class AlwaysDropping(nn.Module):
    def forward(self, inputs: Tensor) -> Tensor:
        return functional.dropout(inputs, 0.5, training=True)


@pytest.mark.parametrize("width", [1, 2])
def test_a_model_that_draws_in_evaluation_neither_reads_nor_changes_the_callers_generator(
    width: int,
) -> None:
    workload, data = Restless(), shortened(data_of(MLP), 64, 360)
    pack = pack_of(
        MLP, "adamw", member("adamw", "a"), member("adamw", "b", lr=0.01), width=width, objective_at="best"
    )
    stories: list[object] = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        stories.append(story(train(pack, workload, data), "a"))
        assert torch.equal(torch.get_rng_state(), before)
    assert stories[0] == stories[1]


class Spy(TensorWorkload):
    """Records the initial weights of its models and every training batch."""

    def __init__(self, inner: TensorWorkload) -> None:
        self.card, self._inner = inner.card, inner
        self.starts: list[Tensor] = []
        self.batches: list[Tensor] = []

    def load_data(self, device: torch.device) -> Data:
        return self._inner.load_data(device)

    def build_model(self) -> nn.Module:
        model = self._inner.build_model()
        self.starts.append(torch.cat([parameter.detach().flatten() for parameter in model.parameters()]))
        return model

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        if outputs.requires_grad:
            self.batches.append(targets.clone())
        return self._inner.loss(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._inner.metric_sum(outputs, targets)


def test_every_arm_starts_from_the_same_weights_and_sees_the_same_batches() -> None:
    spies = {optimizer: Spy(MLP) for optimizer in ("adamp", "sgd", "schedule-free-adamw", "muon")}
    for optimizer, spy in spies.items():
        train(pack_of(spy, optimizer, member(optimizer, seed=5)), spy, data_of(MLP))
    first = spies["adamp"]
    order = epoch_order(5, epoch=1, examples=len(data_of(MLP).train))
    assert torch.equal(first.batches[0], data_of(MLP).train.targets[order[: MLP.card.batch_size]])
    for spy in spies.values():
        assert torch.equal(spy.starts[0], first.starts[0])
        assert len(spy.batches) == 2 * (1077 // 32)
        assert all(torch.equal(ours, theirs) for ours, theirs in zip(spy.batches, first.batches, strict=True))


def test_another_seed_gives_other_weights_and_another_order() -> None:
    spies = [Spy(MLP), Spy(MLP)]
    for seed, spy in enumerate(spies):
        train(pack_of(spy, "sgd", member("sgd", seed=seed)), spy, data_of(MLP))
    assert not torch.equal(spies[0].starts[0], spies[1].starts[0])
    assert not torch.equal(spies[0].batches[0], spies[1].batches[0])


def test_a_member_that_diverges_does_not_affect_the_others() -> None:
    calm, wild = member("sgd", "calm", lr=0.05), member("sgd", "wild", lr=1e8)
    reports = train(pack_of(MLP, "sgd", wild, calm, epochs=3))
    outcome = outcome_of(reports, "wild")
    assert outcome.state == "diverged"
    assert outcome.value is outcome.test_value is outcome.best_epoch is None
    assert outcome.reason is not None
    assert outcome.reason.startswith("training loss became ")
    assert outcome.reason.endswith("; lr 1e+08 may be too high")
    assert [len(report.members) for report in reports] == [2, 1, 1]
    assert story(reports, "calm") == story(train(pack_of(MLP, "sgd", calm, epochs=3)), "calm")


def slower_first(groups: list[ParameterGroup], parameters: Parameters) -> torch.optim.Optimizer:
    """Return SGD whose first group has a learning rate of its own, like a pretrained backbone."""
    lr = float(parameters["lr"])
    weights = [weight for group in groups for weight in group["params"]]
    return torch.optim.SGD([{"params": weights[:1], "lr": lr / 1000}, {"params": weights[1:]}], lr=lr)


def test_the_learning_rate_of_a_report_is_the_one_that_the_study_sets() -> None:
    settings = {"schedule": "cosine", "epochs": 2}
    found: list[EpochResult] = []
    for lr in (0.02, 1e8):
        one = member("sgd", lr=lr)
        pack = pack_of(MLP, "sgd", one, **settings)
        entry = replace(OPTIMIZERS["sgd"], build=slower_first)
        solo = Solo(one, pack=pack, workload=MLP, entry=entry, data=data_of(MLP), device=CPU)
        found.append(solo.train_epoch(1))
    sound, diverged = found
    assert sound.lr == pytest.approx(
        0.02 * factor(TrainingSettings(batch_size=1, schedule="cosine"), step=32, total_steps=66)
    )
    assert diverged.divergence is not None
    assert "lr 1e+08 " in diverged.divergence


def test_a_pack_whose_members_have_all_diverged_ends_early() -> None:
    [report] = train(pack_of(MLP, "sgd", member("sgd", lr=1e8), epochs=5))
    [part] = report.members
    assert part.measurement.epoch == 1
    assert part.measurement.train_loss is part.measurement.validation_loss is None


class _Factoring(torch.optim.SGD):
    """SGD that factors a matrix in its third step, which is not positive definite."""

    steps = 0

    def step(self, closure: Any = None) -> Any:
        self.steps += 1
        if self.steps == 3:
            torch.linalg.cholesky(-torch.eye(2))
        return super().step(closure)


@pytest.mark.parametrize("settings", [{}, {"precision": "fp16"}, {"accumulation_steps": 11}])
def test_a_matrix_that_an_optimizer_cannot_factor_is_divergence(settings: dict[str, Any]) -> None:
    one = member("sgd", lr=0.01)
    entry = replace(OPTIMIZERS["sgd"], build=lambda groups, _: _Factoring(groups, lr=0.01))
    found = [
        Solo(
            one,
            pack=pack_of(MLP, "sgd", one, **settings),
            workload=MLP,
            entry=entry,
            data=data_of(MLP),
            device=CPU,
            check_every=check_every,
        ).train_epoch(1)
        for check_every in (1, 32)
    ]
    # The third step is the last one of three times eleven batches.
    last = "accumulation_steps" in settings
    assert found[0].divergence == found[1].divergence is not None
    assert math.isnan(found[0].weight_norm if last else found[0].train_loss)


class _Repeating(torch.optim.SGD):
    """Keeps by how much the gradients of a second pass at the same weights differ from those of the first."""

    def __init__(self, groups: Any, differences: list[float]) -> None:
        super().__init__(groups, lr=0.01)
        self.differences = differences

    def step(self, closure: Any = None) -> Any:
        weights = [weight for group in self.param_groups for weight in group["params"]]
        first = [weight.grad.clone() for weight in weights]
        self.zero_grad()
        closure()
        pairs = zip(first, weights, strict=True)
        self.differences.append(max((grad - weight.grad).abs().max().item() for grad, weight in pairs))
        return super().step()


@pytest.mark.parametrize("settings", [{}, {"accumulation_steps": 2}])
def test_a_second_pass_over_a_batch_draws_what_the_first_drew(settings: dict[str, Any]) -> None:
    one, sgd = member("sgd", lr=0.01), OPTIMIZERS["sgd"]
    differences: list[float] = []
    entry = replace(
        sgd,
        card=sgd.card.model_copy(update={"needs": "closure"}),
        build=lambda groups, _: _Repeating(groups, differences),
    )
    pack = pack_of(MLP, "sgd", one, **settings)
    Solo(one, pack=pack, workload=Restless(), entry=entry, data=data_of(MLP), device=CPU).train_epoch(1)
    assert set(differences) == {0.0}


def test_checking_the_loss_rarely_finds_the_same_diverged_step() -> None:
    def divergence(check_every: int) -> str | None:
        wild = member("sgd", lr=1e8)
        pack = pack_of(MLP, "sgd", wild)
        solo = Solo(
            wild,
            pack=pack,
            workload=MLP,
            entry=OPTIMIZERS["sgd"],
            data=data_of(MLP),
            device=CPU,
            check_every=check_every,
        )
        return solo.train_epoch(1).divergence

    assert divergence(1) is not None
    assert divergence(1) == divergence(32)


def test_checking_the_loss_rarely_changes_no_result() -> None:
    def results(check_every: int) -> tuple[float, ...]:
        one = member("adamp")
        pack = pack_of(CNN, "adamp", one)
        solo = Solo(
            one,
            pack=pack,
            workload=CNN,
            entry=OPTIMIZERS["adamp"],
            data=data_of(CNN),
            device=CPU,
            check_every=check_every,
        )
        result = solo.train_epoch(1)
        return (
            result.train_loss,
            result.validation_loss,
            result.weight_norm,
            result.effective_step,
            result.projected_fraction,
        )

    assert results(1) == results(7) == results(32)


class Poisoned(Spy):
    """A workload that adds a constant to its validation loss."""

    def __init__(self, inner: TensorWorkload, poison: float) -> None:
        super().__init__(inner)
        self._poison = poison

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        loss = super().loss(outputs, targets)
        return loss if outputs.requires_grad else loss + self._poison


@pytest.mark.parametrize("poison", [math.nan, math.inf])
def test_a_validation_loss_that_is_not_finite_is_divergence(poison: float) -> None:
    workload = Poisoned(MLP, poison)
    reports = train(pack_of(workload, "sgd", member("sgd")), workload, data_of(MLP))
    assert (
        outcome_of(reports).reason
        == f"validation loss became {poison} at epoch 1, after its last step; lr 0.001 may be too high"
    )
    [(measurement, _)] = story(reports)
    assert measurement.validation_loss is None
    assert measurement.train_loss is not None


@pytest.mark.parametrize("lr", [0.05, 1e8])
def test_reports_survive_json(lr: float) -> None:
    for report in train(pack_of(CNN, "sgdp", member("sgdp", "a", lr=lr), member("sgdp", "b"))):
        text = report.model_dump_json()
        assert "NaN" not in text
        assert "Infinity" not in text
        assert EpochReport.model_validate_json(text) == report


def test_the_value_of_a_trial_is_the_last_epochs_unless_the_objective_is_the_best() -> None:
    # Warm-up to a learning rate that is far too high: the best epoch is not the last.
    one = member("sgd", lr=2.0)
    by_rule = {
        rule: train(
            pack_of(
                MLP, "sgd", one, epochs=6, schedule="warmup-cosine", warmup_fraction=0.9, objective_at=rule
            )
        )
        for rule in ("last", "best")
    }
    values = [measurement.validation_metric for measurement, _ in story(by_rule["last"])]
    assert values == [measurement.validation_metric for measurement, _ in story(by_rule["best"])]
    known = [value for value in values if value is not None]
    assert len(known) == 6
    assert known[-1] < max(known)
    last, best = outcome_of(by_rule["last"]), outcome_of(by_rule["best"])
    assert (last.value, last.best_epoch) == (known[-1], 6)
    assert (best.value, best.best_epoch) == (max(known), known.index(max(known)) + 1)
    assert last.test_value != best.test_value


def test_the_best_epoch_of_a_minimised_metric_has_its_smallest_value() -> None:
    reports = train(pack_of(TOY, "sgd", member("sgd", lr=0.01, momentum=0.9), epochs=4, objective_at="best"))
    outcome = outcome_of(reports)
    assert outcome.best_epoch == 4
    assert (
        outcome.value
        == outcome.test_value
        == min(measurement.validation_metric or 0.0 for measurement, _ in story(reports))
    )


def test_the_schedule_applies_to_every_group_but_not_to_optimizers_with_their_own() -> None:
    def lrs(optimizer: str, **settings: Any) -> list[float | None]:
        return [
            measurement.lr
            for measurement, _ in story(
                train(pack_of(MLP, optimizer, member(optimizer, lr=0.01), **settings))
            )
        ]

    assert lrs("adamw", schedule="constant") == [0.01, 0.01]
    # 33 steps per epoch: the last steps of the two epochs are 32 and 65, counted from 0.
    assert lrs("adamw", schedule="cosine", decay_1d=False) == pytest.approx(
        [0.005 * (1 + math.cos(math.pi * step / 66)) for step in (32, 65)]
    )
    assert lrs("schedule-free-adamw", schedule="cosine") == lrs("schedule-free-adamw", schedule="constant")


@pytest.mark.parametrize(
    ("optimizer", "parameters", "norm"),
    [
        ("sgd", {"momentum": 0.0}, 1.02),
        ("sgd", {"momentum": 0.9}, 2.93),
        ("sgd", {"momentum": 0.99}, 27.87),
        ("sgdp", {"momentum": 0.9, "nesterov": False}, 1.12),
        ("sgdp", {"momentum": 0.99, "nesterov": False}, 1.15),
    ],
)
def test_the_toys_norms_are_those_of_the_papers_project_page(
    optimizer: str, parameters: Parameters, norm: float
) -> None:
    one = member(optimizer, given=parameters, lr=0.01, weight_decay=0.0)
    last, _ = story(train(pack_of(TOY, optimizer, one, epochs=10)))[-1]
    assert last.weight_norm is not None
    # One update more than on the page, and from a start that depends on the seed.
    assert last.weight_norm == pytest.approx(norm, abs=0.01)
    assert (last.projected_fraction == 1.0) is (optimizer == "sgdp")
    assert last.gradient_cosine == pytest.approx(0.0, abs=1e-5)


def test_only_optimizers_that_project_report_a_projected_fraction() -> None:
    fractions = {
        name: story(train(pack_of(CNN, name, member(name))))[-1][0].projected_fraction
        for name in ("adamp", "adamw")
    }
    assert fractions["adamw"] is None
    assert fractions["adamp"] is not None
    assert 0.0 < fractions["adamp"] < 1.0


def test_adamp_with_delta_zero_equals_adamw_and_projects_nothing() -> None:
    shared: Parameters = {"lr": 0.01, "weight_decay": 0.1}
    adamp, _ = story(train(pack_of(CNN, "adamp", member("adamp", given=shared, delta=0.0))))[-1]
    adamw, _ = story(train(pack_of(CNN, "adamw", member("adamw", given=shared))))[-1]
    assert adamp.projected_fraction == 0.0
    assert adamp.train_loss == pytest.approx(adamw.train_loss, rel=1e-3)
    assert adamp.weight_norm == pytest.approx(adamw.weight_norm, rel=1e-3)


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer_completes_a_trial_with_its_defaults(optimizer: str) -> None:
    reports = train(
        pack_of(CNN, optimizer, member(optimizer), epochs=2, schedule="warmup-cosine", decay_1d=False)
    )
    assert outcome_of(reports).state == "completed"
    losses = [measurement.train_loss or math.inf for measurement, _ in story(reports)]
    assert losses[1] < losses[0]


@pytest.mark.parametrize(
    ("name", "epochs", "lr", "beats"),
    [
        ("digits-mlp", 3, 1e-2, 0.8),
        ("digits-cnn", 2, 1e-2, 0.9),
        ("mnist5k-cnn", 1, 1e-2, 0.8),
        ("pydoc-lm", 1, 1e-2, 3.4),
        ("rosenbrock-3d", 2, 1e-1, 3.0),
        ("antipode-2d", 2, 1e-1, 1.0),
    ],
)
def test_every_workload_improves_in_a_few_epochs_of_adamw(
    name: str, epochs: int, lr: float, beats: float
) -> None:
    workload, data = WORKLOADS[name], data_of(WORKLOADS[name])
    if name == "pydoc-lm":
        # The real text and model, but an eighth of an epoch: this suite shares one core.
        data = shortened(data, 512, 64)
    value = outcome_of(
        train(pack_of(workload, "adamw", member("adamw", lr=lr), epochs=epochs), workload, data)
    ).value
    assert value is not None
    assert value > beats if workload.card.direction == "maximize" else value < beats


def test_the_seconds_of_a_member_count_its_own_training_and_only_increase() -> None:
    reports = train(pack_of(CNN, "adamw", member("adamw", "a"), member("adamw", "b"), epochs=3))
    for trial_id in ("a", "b"):
        seconds = [
            part.measurement.elapsed_s
            for report in reports
            for part in report.members
            if part.trial_id == trial_id
        ]
        assert 0.0 < seconds[0] < seconds[1] < seconds[2]


def test_a_batch_larger_than_the_training_split_is_rejected_at_once() -> None:
    pack = pack_of(CNN, "adamw", member("adamw"), batch_size=1078)
    with pytest.raises(ValueError, match=r"batch size of at most 1077\b.*, got 1078"):
        train_pack(pack, workload=CNN, entry=OPTIMIZERS["adamw"], data=data_of(CNN), device=CPU)


def test_an_invalid_configuration_is_rejected_before_any_member_trains() -> None:
    pack = pack_of(CNN, "adamw", member("adamw", "good"), member("adamw", "bad", lr=-1.0))
    with pytest.raises(ValueError, match="lr"):
        train_pack(pack, workload=CNN, entry=OPTIMIZERS["adamw"], data=data_of(CNN), device=CPU)


@pytest.mark.gpu
def test_a_gpu_gives_the_same_results_to_rounding() -> None:
    one = member("adamp", lr=0.01)
    device = torch.device("cuda")
    pack = pack_of(CNN, "adamp", one, epochs=3)
    data = data_of(CNN).to(device)
    reports = list(train_pack(pack, workload=CNN, entry=OPTIMIZERS["adamp"], data=data, device=device))
    assert outcome_of(reports).value == pytest.approx(outcome_of(train(pack)).value, abs=0.03)
