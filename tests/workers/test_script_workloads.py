"""Workloads with a training loop of their own: what the loop gets, and what becomes of what it reports."""

import os
import random
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from packs import CPU, OPTIMIZERS, outcome_of
from plane_scripts import CARD, pack_of
from torch import Tensor, nn

from workers.pack_protocol import EpochReport, Pack
from workers.script.trial import Trial
from workers.seeding import generator_states
from workers.training import train_pack
from workers.workload_check import check_workload
from workers.workload_errors import CannotTrain, describe_error
from workers.workloads import ScriptWorkload

__all__: list[str] = []


def points(examples: int, seed: int) -> tuple[Tensor, Tensor]:
    inputs = torch.randn(examples, 2, generator=torch.Generator().manual_seed(seed))
    return inputs, (inputs @ torch.tensor([1.0, -2.0]) + 0.5)[:, None]


class Script(ScriptWorkload):
    """A loop as a user writes it, with noise from every global generator."""

    card = CARD

    def run(self, trial: Trial) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 1)).to(trial.device)
        optimizer = trial.optimizer(model)
        scheduler = trial.scheduler(optimizer, steps_per_epoch=4)
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        trial.restore(parts)
        inputs, targets = points(64, 1)
        for _ in trial.epochs():
            model.train()
            for batch in torch.randperm(64).view(4, 16):
                noise = random.random() + float(np.random.random())  # noqa: NPY002 # users draw from it
                loss = (model(inputs[batch]) - targets[batch]).square().mean() * (1 + 0.1 * noise)
                loss.backward()
                optimizer.step()
                scheduler.step()
                optimizer.zero_grad()
            model.eval()
            with torch.no_grad():
                errors = [(model(x) - y).square().mean() for x, y in (points(16, 2), points(16, 3))]
            trial.report(validation={"squared error": errors[0], "loss": errors[0]}, test=errors[1])
            trial.save(parts)


class StepScript(ScriptWorkload):
    """A loop that counts steps."""

    card = CARD

    def run(self, trial: Trial) -> None:
        model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(0.2), nn.Linear(2, 1)).to(trial.device)
        optimizer = trial.optimizer(model)
        scheduler = trial.scheduler(optimizer, steps_per_epoch=4)
        parts = {"model": model, "optimizer": optimizer, "scheduler": scheduler}
        trial.restore(parts)
        inputs, targets = points(64, 1)
        for step in trial.steps(steps_per_epoch=4):
            rows = torch.arange(16) + step % 4 * 16
            (model(inputs[rows]) - targets[rows]).square().mean().backward()
            optimizer.step()
            scheduler.step()
            optimizer.zero_grad()
            trial.save(parts)
            if trial.is_due:
                error = (model(inputs) - targets).detach().square().mean()
                trial.report(validation=error, test=error)


class Told(ScriptWorkload):
    """A loop that a test writes."""

    card = CARD

    def __init__(self, run: Callable[[Trial], None]) -> None:
        self._told = run

    def run(self, trial: Trial) -> None:
        self._told(trial)


def train(workload: ScriptWorkload, pack: Pack, **options: Any) -> list[EpochReport]:
    entry = OPTIMIZERS[pack.optimizer]
    return list(train_pack(pack, workload=workload, entry=entry, data=None, device=CPU, **options))


def reason_of(run: Callable[[Trial], None], **changes: Any) -> str:
    with pytest.raises(Exception) as caught:  # noqa: PT011 # a user's error of any kind
        train(Told(run), pack_of(**changes))
    return describe_error(caught.value, workload="plane").reason


def reported(trial: Trial, value: float = 0.5) -> None:
    trial.report(validation=value, test=value)


def measured(reports: list[EpochReport], member: int = 0) -> list[Mapping[str, Any]]:
    return [report.members[member].measurement.model_dump(exclude={"elapsed_s"}) for report in reports]


def test_a_script_is_trained_to_a_value_with_the_arms_schedule_and_probes() -> None:
    reports = train(Script(), pack_of())
    found = outcome_of(reports, "t0")
    last = reports[-1].members[0].measurement
    assert (found.state, found.value, found.best_epoch) == ("completed", last.validation_metric, 4)
    assert found.test_value is not None
    lrs = [report.members[0].measurement.lr for report in reports]
    # The last of the four steps of an epoch, of sixteen.
    expected = [0.01 * (1 + np.cos(np.pi * (4 * epoch + 3) / 16)) for epoch in range(4)]
    assert lrs == pytest.approx(expected)
    assert last.validation_loss == last.validation_metric
    assert last.weight_norm is not None
    assert None not in (last.effective_step, last.gradient_cosine, last.projected_fraction)
    assert last.train_loss is None
    width = reports[0].stack_width
    assert width is not None
    assert (width.width, "script" in str(width.reason)) == (1, True)


@pytest.mark.parametrize("optimizer", ["adamp", "sgd", "schedule-free-adamw"])
def test_a_script_that_stops_at_rungs_is_bitwise_equal_to_one_that_never_stops(
    optimizer: str, tmp_path: Path
) -> None:
    whole = train(Script(), pack_of(optimizer=optimizer, members=2))
    parts: list[EpochReport] = []
    for rung in (1, 3, 4):
        after = parts[-1] if parts else None
        parts += train(
            Script(), pack_of(tmp_path, optimizer=optimizer, members=2, after=after, to_epoch=rung)
        )
    for member in range(2):
        assert measured(parts, member)[-1] == measured(whole, member)[-1]
        assert [row["validation_metric"] for row in measured(parts, member)] == [
            row["validation_metric"] for row in measured(whole, member)
        ]
    assert outcome_of(parts, "t0") == outcome_of(whole, "t0")


@pytest.mark.parametrize("every", [None, 4, 6])
def test_a_script_in_steps_resumes_at_each_interval_bit_for_bit(every: int | None, tmp_path: Path) -> None:
    whole = train(StepScript(), pack_of(interval_steps=every))
    first = train(StepScript(), pack_of(tmp_path, interval_steps=every, to_epoch=2))
    rest = train(StepScript(), pack_of(tmp_path, interval_steps=every, after=first[-1]))
    assert [report.epoch for report in whole] == [1, 2, 3, 4]
    assert measured(first + rest)[1:] == measured(whole)[1:]
    # The schedule spans the steps of the budget, or the epochs of four steps.
    total = 4 * (every or 4)
    assert measured(whole)[-1]["lr"] == pytest.approx(0.01 * (1 + np.cos(np.pi * (total - 1) / total)))


def test_a_loop_of_a_librarys_own_is_seeded_before_a_resumed_first_epoch(tmp_path: Path) -> None:
    def run(trial: Trial) -> None:
        torch.rand(7)
        trial.restore({})
        while not trial.is_over:
            trial.save({"nothing": 0})
            reported(trial, random.random() + float(torch.rand(())))

    whole = train(Told(run), pack_of())
    first = train(Told(run), pack_of(tmp_path, to_epoch=2))
    rest = train(Told(run), pack_of(tmp_path, after=first[-1]))
    assert measured(first + rest) == measured(whole)


def test_a_loop_of_a_librarys_own_names_the_steps_of_its_reports() -> None:
    def run(trial: Trial) -> None:
        assert (trial.budget, trial.evaluate_every) == (20, 5)
        for step in range(5, 21, 5):
            trial.report(validation=0.5, test=0.5, step=step)

    assert outcome_of(train(Told(run), pack_of(interval_steps=5)), "t0").state == "completed"


@pytest.mark.parametrize("saves", [True, False])
def test_a_script_without_restore_starts_over_and_reports_no_epoch_twice(
    *, saves: bool, tmp_path: Path
) -> None:
    trained: list[int] = []

    def run(trial: Trial) -> None:
        for epoch in trial.epochs():
            trained.append(epoch)
            reported(trial, 1 / epoch)
            if saves:
                trial.save({"epoch": epoch})

    first = train(Told(run), pack_of(tmp_path, to_epoch=2))
    rest = train(Told(run), pack_of(tmp_path, after=first[-1]))
    assert trained == [1, 2, 1, 2, 3, 4]
    assert [report.epoch for report in first + rest] == [1, 2, 3, 4]
    assert outcome_of(rest, "t0").value == 0.25


def test_state_is_read_at_the_end_of_an_epoch_and_only_for_a_checkpoint(tmp_path: Path) -> None:
    class Counted:
        reads = 0

        def state_dict(self) -> dict[str, int]:
            Counted.reads += 1
            return {"epoch": self.epoch}

        epoch = 0

    def run(trial: Trial) -> None:
        part = Counted()
        for epoch in trial.epochs():
            trial.save({"part": part, "list": [epoch]})
            reported(trial)
            part.epoch = epoch
        part.epoch = 99

    seen: list[object] = []

    def resumed(trial: Trial) -> None:
        seen.append(trial.restore())
        for _ in trial.epochs():
            reported(trial)

    [*_, last] = train(Told(run), pack_of(tmp_path, to_epoch=3))
    assert Counted.reads == 1
    train(Told(resumed), pack_of(tmp_path, after=last))
    assert seen == [{"part": {"epoch": 3}, "list": [3]}]


def test_a_loop_of_a_librarys_own_ends_epochs_with_report_and_asks_when_to_stop(tmp_path: Path) -> None:
    ended: list[int] = []

    def run(trial: Trial) -> None:
        state = trial.restore() or {"epoch": 0}
        for epoch in range(state["epoch"] + 1, 100):
            trial.save({"epoch": epoch})
            reported(trial)
            if trial.is_over:
                ended.append(epoch)
                return

    first = train(Told(run), pack_of(tmp_path, to_epoch=3))
    rest = train(Told(run), pack_of(tmp_path, after=first[-1]))
    assert ended == [3, 4]
    assert [report.epoch for report in first + rest] == [1, 2, 3, 4]


def test_test_values_are_measured_only_in_the_epochs_that_count() -> None:
    asked: list[int] = []

    def run(trial: Trial) -> None:
        for epoch in trial.epochs():

            def test(epoch: int = epoch) -> float:
                asked.append(epoch)
                return epoch / 10

            trial.report(validation=[0.4, 0.2, 0.3, 0.1][epoch - 1], test=test)

    assert outcome_of(train(Told(run), pack_of()), "t0").test_value == 0.4
    assert asked == [4]
    asked.clear()
    assert outcome_of(train(Told(run), pack_of(objective_at="best")), "t0").test_value == 0.4
    assert asked == [1, 2, 4]


def test_what_a_script_changes_globally_is_its_own(tmp_path: Path) -> None:
    seen: list[tuple[object, ...]] = []

    def run(trial: Trial) -> None:
        os.chdir(tmp_path)
        os.environ["TANGENT_TEST_OF_SCRIPTS"] = trial.id
        sys.argv[:] = ["train.py"]
        torch.set_default_dtype(torch.float64)
        torch.set_default_device("meta")
        for _ in trial.epochs():
            seen.append(
                (Path.cwd(), os.environ["TANGENT_TEST_OF_SCRIPTS"], sys.argv[0], torch.zeros(1).dtype)
            )
            seen.append((str(torch.zeros(1).device),))
            random.random()
            reported(trial)

    before = Path.cwd(), dict(os.environ), list(sys.argv), generator_states(CPU)
    for _ in train_pack(
        pack_of(members=2), workload=Told(run), entry=OPTIMIZERS["adamp"], data=None, device=CPU
    ):
        assert (Path.cwd(), dict(os.environ), list(sys.argv), generator_states(CPU)) == before
        assert torch.zeros(1).dtype == torch.float32
        assert str(torch.zeros(1).device) == "cpu"
    assert set(seen) == {("meta",), *((tmp_path, trial, "train.py", torch.float64) for trial in ("t0", "t1"))}


def test_a_script_gets_its_configuration_and_a_folder_that_is_removed() -> None:
    seen: list[Any] = []

    def run(trial: Trial) -> None:
        seen.extend([dict(trial.config), trial.training, trial.optimizer_name, trial.seed, trial.device])
        (trial.folder / "file").write_text("kept while it runs")
        seen.append(trial.folder)
        for _ in trial.epochs():
            reported(trial)

    train(Told(run), pack_of())
    config, training, optimizer, seed, device, folder = seen
    assert config["lr"] == 0.02
    assert config["training.batch_size"] == training.batch_size == 16
    assert (optimizer, seed, device) == ("adamp", 3, CPU)
    assert not folder.exists()


@pytest.mark.parametrize("field", ["validation", "loss", "train_loss", "weights"])
def test_a_reported_nan_ends_the_trial_as_diverged(field: str) -> None:
    def run(trial: Trial) -> None:
        model = nn.Linear(2, 2)
        trial.optimizer(model)
        for epoch in trial.epochs():
            bad = float("nan") if epoch == 2 else 0.5
            if field == "weights":
                nn.init.constant_(model.weight, bad)
            validation = {"squared error": bad if field == "validation" else 0.5}
            if field == "loss":
                validation["loss"] = bad
            trial.report(validation=validation, test=0.5, train_loss=bad if field == "train_loss" else None)

    reports = train(Told(run), pack_of())
    assert [report.epoch for report in reports] == [1, 2]
    found = outcome_of(reports, "t0")
    assert found.state == "diverged"
    assert "epoch 2" in str(found.reason)


def test_a_metric_that_is_nan_beside_finite_losses_is_the_scripts_fault() -> None:
    def run(trial: Trial) -> None:
        for _ in trial.epochs():
            trial.report(validation={"squared error": float("nan"), "loss": 0.5}, test=0.5)

    found = outcome_of(train(Told(run), pack_of()), "t0")
    assert (found.state, "nan at epoch 1" in str(found.reason)) == ("failed", True)


def twice(trial: Trial) -> None:
    for _ in trial.epochs():
        reported(trial)
        reported(trial)


def beyond(trial: Trial) -> None:
    for _ in range(100):
        reported(trial)


def never(trial: Trial) -> None:
    del trial


def left_out(trial: Trial) -> None:
    for epoch in trial.epochs():
        if epoch == 1:
            reported(trial)


def early(trial: Trial) -> None:
    for epoch in trial.epochs():
        reported(trial)
        if epoch == 2:
            break


def no_test(trial: Trial) -> None:
    for _ in trial.epochs():
        trial.report(validation=0.5)


def wrong_name(trial: Trial) -> None:
    for _ in trial.epochs():
        trial.report(validation={"squared eror": 0.5}, test=0.5)


def no_number(trial: Trial) -> None:
    for _ in trial.epochs():
        trial.report(validation=torch.zeros(3), test=0.5)


def swallowed(trial: Trial) -> None:
    for _ in trial.epochs():
        reported(trial)
    try:
        reported(trial)
    except ValueError:
        return


def leaving(trial: Trial) -> None:
    reported(trial)
    sys.exit(3)


def broken(trial: Trial) -> None:
    for _ in trial.epochs():
        reported(trial)
        raise KeyError("colour")


def epochs(trial: Trial) -> None:
    for _ in trial.epochs():
        reported(trial)


def steps(trial: Trial) -> None:
    for _ in trial.steps():
        reported(trial)


def without_step(trial: Trial) -> None:
    while not trial.is_over:
        reported(trial)


def off_by_one(trial: Trial) -> None:
    for step in trial.steps():
        if step % 5 == 4:
            reported(trial)


def unreported(trial: Trial) -> None:
    for step in trial.steps():
        if step == 5:
            reported(trial)


def beyond_steps(trial: Trial) -> None:
    for _ in trial.steps():
        if trial.is_due:
            reported(trial)
    reported(trial)


def short_of_steps(trial: Trial) -> None:
    for step in trial.steps():
        if trial.is_due:
            reported(trial)
        if step == 12:
            break


@pytest.mark.parametrize(
    ("run", "every", "words"),
    [
        (epochs, 5, ("loop over trial.steps()", "20 steps, evaluated every 5", "budget of epochs")),
        (steps, None, ("steps_per_epoch", "{steps: 2000, evaluate_every: 200}")),
        (without_step, 5, ("the step of the report", "none")),
        (off_by_one, 5, ("after step 5", "one after step 4", "trial.is_due")),
        (unreported, 5, ("report of step 10", "none")),
        (beyond_steps, 5, ("after step 20", "last of its budget")),
        (short_of_steps, 5, ("up to step 20", "after step 10 of 20")),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_loop_that_does_not_follow_its_budget_of_steps_is_told_what_to_do(
    run: Callable[[Trial], None], every: int | None, words: tuple[str, ...]
) -> None:
    reason = reason_of(run, interval_steps=every)
    assert [word for word in words if word not in reason] == []
    assert run is short_of_steps or "test_script_workloads.py, line" in reason


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (twice, ("one report of epoch 1", "second")),
        (beyond, ("after epoch 4", "last of its budget")),
        (never, ("without a report",)),
        (left_out, ("report of epoch 2", "none")),
        (early, ("each epoch up to 4", "after epoch 2")),
        (no_test, ("test value of epoch 4", "none")),
        (wrong_name, ("'squared error'", "'squared eror'")),
        (no_number, ("'squared error'", "shape [3]")),
        (swallowed, ("after epoch 4", "last of its budget")),
        (leaving, ("SystemExit: 3",)),
        (broken, ("KeyError: 'colour'",)),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_a_loop_that_breaks_a_rule_fails_with_one_reason_and_its_place(
    run: Callable[[Trial], None], words: tuple[str, ...]
) -> None:
    reason = reason_of(run)
    assert [word for word in words if word not in reason] == []
    assert run is never or run is early or "test_script_workloads.py, line" in reason


def test_a_report_after_a_rung_is_refused_at_its_place(tmp_path: Path) -> None:
    reason = reason_of(beyond, folder=tmp_path, to_epoch=2)
    assert "after epoch 2, at which it pauses, of 4" in reason


def test_a_script_cannot_report_once_it_has_ended() -> None:
    kept: list[Trial] = []

    def run(trial: Trial) -> None:
        kept.append(trial)
        for _ in trial.epochs():
            reported(trial)

    train(Told(run), pack_of())
    with pytest.raises(CannotTrain, match="after run has returned"):
        reported(kept[0])


def test_the_loop_of_a_trial_that_ends_early_unwinds_in_its_own_thread() -> None:
    ended: list[str] = []

    def run(trial: Trial) -> None:
        try:
            for epoch in trial.epochs():
                trial.report(validation=float("inf") if trial.id == "t0" and epoch == 2 else 0.5, test=0.5)
        finally:
            ended.append(trial.id)

    reports = train_pack(
        pack_of(members=2), workload=Told(run), entry=OPTIMIZERS["adamp"], data=None, device=CPU
    )
    next(reports)
    next(reports)
    next(reports)
    assert ended == ["t0"]
    reports.close()  # pyright: ignore[reportAttributeAccessIssue]  # a generator
    assert ended == ["t0", "t1"]


def test_check_trains_a_script_with_the_optimizer_that_is_asked_for() -> None:
    def run(trial: Trial) -> None:
        if "delta" in trial.config:
            raise ValueError("expected sgd")
        for _ in trial.epochs():
            trial.report(validation=float("inf"), test=0.5)

    [error] = check_workload(Told(run), device=CPU)
    [diverged] = check_workload(Told(run), device=CPU, entry=OPTIMIZERS["sgd"])
    assert (error.status, diverged.status) == ("error", "warning")


def test_check_trains_two_epochs_of_a_script_and_says_whether_it_resumes() -> None:
    assert [result.status for result in check_workload(Script(), device=CPU)] == ["ok", "ok"]

    def run(trial: Trial) -> None:
        for _ in trial.epochs():
            reported(trial)

    *good, resuming = check_workload(Told(run), device=CPU)
    assert [result.status for result in good] == ["ok", "ok"]
    assert (resuming.check, resuming.status) == ("resuming", "note")
    [error] = check_workload(Told(twice), device=CPU)
    assert (error.status, "test_script_workloads.py" in error.sentence) == ("error", True)

    def forgetful(trial: Trial) -> None:
        for _ in trial.epochs():
            reported(trial)
            trial.save({"epoch": 1})

    *_, resuming = check_workload(Told(forgetful), device=CPU)
    assert "call trial.restore" in resuming.sentence
    [error] = check_workload(Told(run), device=CPU, in_steps=True)
    assert "budget of epochs" in error.sentence
    assert [each.status for each in check_workload(StepScript(), device=CPU, in_steps=True)] == ["ok", "ok"]
