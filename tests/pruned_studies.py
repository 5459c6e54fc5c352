"""Studies with a pruner: packs move from rung to rung by the real rules, with synthetic results."""

import math
from typing import Any, Self

from catalogs import study_body

from studies.promotion import Ladder
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import RunWriter, Store
from studies.trials import Measurement, NewTrial, PendingTrial, Report
from studies.views import ArmView, StudyView

__all__ = ["Pruned"]

_SPREAD = 0.618034
_TOO_HOT = 0.05


class Pruned:
    """A study whose run trains a pack of each arm in turn, promoted trials first."""

    def __init__(self, store: Store, *, pack: int = 3, **fields: Any) -> None:
        """Submit a study with the given fields, by default ASHA over 9 epochs, and claim it."""
        self.store = store
        body = study_body(**{"pruner": "asha", "budget": {"trials_per_arm": 9, "epochs": 9}, **fields})
        self.study: StudyView = store.submit(parse_spec(body))
        claim = store.claim_next(dispatcher="here", lease_s=600.0)
        assert claim is not None
        self.writer: RunWriter = store.run_writer(claim, lease_s=600.0)
        self._pack = pack
        self._arms = {arm.name: arm for arm in store.arms(self.study.id)}
        spec, maximize = self.study.spec, self.study.workload_card.direction == "maximize"
        self._ladders = {
            name: Ladder(spec.pruner, epochs=self.study.epochs, trials=arm.progress.trials, maximize=maximize)
            for name, arm in self._arms.items()
        }
        self._promoted: dict[str, list[PendingTrial]] = {name: [] for name in self._arms}
        self._begun = dict.fromkeys(self._arms, 0)

    @property
    def id(self) -> str:
        """The study's id."""
        return self.study.id

    def fit(self, optimizer: str, *, width: int, reason: str | None = None, **rates: float) -> Self:
        """Remember what a worker measured of an optimizer's packs on the CPU; rates as `w1`, `w8`."""
        card = {
            "workload": self.study.workload,
            "optimizer": optimizer,
            "batch_size": self.study.batch_size,
            "device": "cpu",
            "width": width,
        }
        self.writer.record_stack_width(
            {
                **card,
                "reason": reason,
                "trial_steps_per_s": {int(name[1:]): rate for name, rate in rates.items()},
            }
        )
        return self

    def train(self, packs: int | None = None) -> Self:
        """Train this many packs of each arm; by default all."""
        done = 0
        while packs is None or done < packs:
            trained = [self.train_pack(arm) for arm in self._arms]
            if not any(trained):
                break
            done += 1
        self.writer.report_progress()
        return self

    def begin_pack(self, arm: str) -> list[PendingTrial]:
        """Choose an arm's next pack and start it; trials promoted from one rung come first."""
        waiting, ladder = self._promoted[arm], self._ladders[arm]
        if waiting:
            to_epoch = waiting[0].to_epoch
            pack = [trial for trial in waiting if trial.to_epoch == to_epoch][: self._pack]
            self._promoted[arm] = [trial for trial in waiting if trial not in pack]
        else:
            first = self._begun[arm]
            self._begun[arm] = last = min(first + self._pack, self._arms[arm].progress.trials)
            pack = list(
                self.writer.create([self._new(self._arms[arm], number) for number in range(first, last)])
            )
            for trial in pack:
                ladder.begin(trial.number)
        self.writer.start(pack)
        return pack

    def train_pack(self, arm: str) -> bool:
        """Train an arm's next pack to its next stops and apply the rules; return whether there was one."""
        pack = self.begin_pack(arm)
        for trial in pack:
            for epoch in range(trial.epochs_done + 1, trial.to_epoch + 1):
                self.report(trial, epoch, size=len(pack))
                if self._diverges(trial):
                    break
        self.settle(arm)
        return bool(pack)

    def settle(self, arm: str) -> None:
        """Apply the promotion rules to an arm's waiting trials."""
        decision = self._ladders[arm].settle()
        self._promoted[arm] += self.writer.settle(
            promoted=[(f"{self.id}.{arm}.{number}", 1, epoch) for number, epoch in decision.promoted],
            pruned=[(f"{self.id}.{arm}.{number}", 1) for number in decision.pruned],
        )

    def close(self, outcome: StudyMove = StudyMove.FINISH) -> Self:
        """End the study."""
        self.writer.close(outcome)
        return self

    def _new(self, arm: ArmView, number: int) -> NewTrial:
        parameters = dict(arm.defaults)
        if number:
            parameters["lr"] = 1e-4 * 10 ** (3 * (number * _SPREAD % 1))
        ladder = self._ladders[arm.name]
        origin = "sampled" if number else "default"
        return NewTrial(
            arm.name,
            number,
            origin,
            parameters,
            seed=7,
            to_epoch=ladder.first_stop(number),
            bracket=ladder.bracket(number),
        )

    def _diverges(self, trial: PendingTrial) -> bool:
        return float(trial.parameters["lr"]) > _TOO_HOT

    def report(self, trial: PendingTrial, epoch: int, *, size: int) -> None:
        """Report one epoch of a trial in a pack of this size; `settle` decides what follows."""
        ladder, epochs = self._ladders[trial.arm], self.study.epochs
        best_lr = 3e-3 * (self._arms[trial.arm].position + 1)
        share = max(
            0.1,
            0.98 - 0.05 * math.log10(float(trial.parameters["lr"]) / best_lr) ** 2 - 0.0005 * trial.number,
        )
        accuracy = 0.1 + (share - 0.1) * (1 - math.exp(-4 * epoch / epochs))
        value = accuracy if self.study.workload_card.direction == "maximize" else 5.0 - 3.5 * accuracy
        measurement: dict[str, Any] = {
            "epoch": epoch,
            "elapsed_s": 0.1 * epoch,
            "lr": float(trial.parameters["lr"]),
            "train_loss": 2.3 * math.exp(-3 * accuracy),
            "validation_loss": 2.3 * math.exp(-2.7 * accuracy),
            "validation_metric": value,
        }
        pack: dict[str, Any] = {"worker": "host:1", "pack_size": size}
        if self._diverges(trial):
            self.writer.record(
                [
                    Report(
                        trial.id,
                        trial.attempt,
                        Measurement.model_validate(measurement | {"validation_metric": None}),
                        ended="diverged",
                        reason="the loss was nan",
                        **pack,
                    )
                ]
            )
            ladder.end(trial.number, completed=False)
        elif epoch == epochs:
            done = {"ended": "completed", "value": value, "best_epoch": epoch, "test_value": value - 0.005}
            self.writer.record(
                [Report(trial.id, trial.attempt, Measurement.model_validate(measurement), **done, **pack)]
            )
            ladder.end(trial.number, completed=True)
        elif epoch == trial.to_epoch:
            self.writer.record(
                [
                    Report(
                        trial.id,
                        trial.attempt,
                        Measurement.model_validate(measurement),
                        checkpoint=f"file:///kept/{trial.id}-{epoch}",
                        **pack,
                    )
                ]
            )
            ladder.wait(trial.number, value)
        else:
            self.writer.record(
                [Report(trial.id, trial.attempt, Measurement.model_validate(measurement), **pack)]
            )
