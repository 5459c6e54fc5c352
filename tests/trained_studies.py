"""Studies with realistic synthetic results: rising curves, probes, a best lr, and divergence above it.

Deterministic, without torch.
"""

import math
from dataclasses import dataclass, replace
from typing import Any, Self

from catalogs import study_body

from studies.layers import LayerMeasurement, MeasuredLayers
from studies.seeds import confirmation_seed
from studies.space import AnyDimension, Choices, Fixed, Parameters, Range, Scalar
from studies.spec import parse_spec
from studies.states import StudyMove, TrialState
from studies.store import RunWriter, Store
from studies.trials import Measurement, NewTrial, PendingTrial, Report
from studies.views import ArmView, StudyView, TrialView

__all__ = ["Trained"]

# Each number's multiples modulo 1 spread evenly, in another order for each dimension.
_SPREADS = (0.618034, 0.414214, 0.732051, 0.236068, 0.302776, 0.645751, 0.316625)
_TOO_HOT = 10.0


@dataclass
class _InFlight:
    trial: PendingTrial
    value: float
    diverges: bool
    epoch: int = 0


class Trained:
    """A study whose run trains `width` trials at a time, one epoch after another."""

    def __init__(self, store: Store, *, width: int = 2, **fields: Any) -> None:
        """Submit a study with the given fields, and claim it."""
        self.store = store
        self.study: StudyView = store.submit(parse_spec(study_body(**fields)))
        claim = store.claim_next(dispatcher="here", lease_s=600.0)
        assert claim is not None
        assert claim.study_id == self.study.id
        self._writer: RunWriter = store.run_writer(claim, lease_s=600.0)
        self._writer.record_scale_invariance({"0.weight": True, "4.weight": False})
        self._width = width
        self._arms = {arm.name: arm for arm in store.arms(self.study.id)}
        most = max(arm.progress.trials for arm in self._arms.values())
        self._waiting = [
            self._new(arm, n) for n in range(most) for arm in self._arms.values() if n < arm.progress.trials
        ]
        self._in_flight: list[_InFlight] = []

    @property
    def id(self) -> str:
        """The study's id."""
        return self.study.id

    def train(self, epochs: int | None = None) -> Self:
        """Train this many epochs of the running trials; by default to the end."""
        done = 0
        while (epochs is None or done < epochs) and self._epoch():
            done += 1
        return self

    def take_steps(self, steps: int) -> None:
        """Report a sign of life of the running trials, this many steps into their epoch."""
        attempts = {each.trial.id: each.trial.attempt for each in self._in_flight}
        self._writer.hear(attempts, dict.fromkeys(attempts, steps))

    def confirm(self) -> Self:
        """Retrain the best of each arm's replicates, and its defaults, on every fresh seed of the study."""
        known = {
            (trial.arm, trial.confirms, trial.seed)
            for trial in self.store.every_trial(self.id, phase="confirmation")
        }
        numbers = {name: sum(arm == name for arm, *_ in known) for name in self._arms}
        for arm in self._arms:
            for trial in self._to_confirm(arm):
                for index in range(self.study.spec.confirmation.seeds):
                    seed = confirmation_seed(self.study.spec.seed, index)
                    if (arm, trial.number, seed) not in known:
                        again = NewTrial(
                            arm, numbers[arm], trial.origin, trial.parameters, seed, trial.replicate
                        )
                        self._waiting.append(replace(again, phase="confirmation", confirms=trial.number))
                        numbers[arm] += 1
        return self.train()

    def _to_confirm(self, arm: str) -> list[TrialView]:
        """Return the trials to confirm: the best of each replicate, then the defaults, without duplicates."""
        sign = -1 if self.study.workload_card.direction == "maximize" else 1
        trials = [trial for trial in self.store.every_trial(self.id) if trial.arm == arm]
        done = [trial for trial in trials if trial.state is TrialState.COMPLETED]
        best = [
            min(
                (trial for trial in done if trial.replicate == replicate),
                key=lambda t: (sign * (t.value or 0.0), t.number),
            )
            for replicate in sorted({trial.replicate for trial in done})
        ]
        defaults = next(trial for trial in trials if trial.number == 0)
        found: list[TrialView] = []
        for trial in (*best, defaults):
            if all(trial.parameters != other.parameters for other in found):
                found.append(defaults if trial.parameters == defaults.parameters else trial)
        return found

    def close(self, outcome: StudyMove = StudyMove.FINISH, *, reason: str | None = None) -> Self:
        """End the study."""
        self._writer.close(outcome, reason=reason)
        return self

    def _epoch(self) -> bool:
        while len(self._in_flight) < self._width and self._waiting:
            self._in_flight.append(self._started(self._waiting.pop(0)))
        self._writer.record([self._report(one) for one in self._in_flight])
        self._in_flight = [
            one
            for one in self._in_flight
            if one.epoch < self.study.epochs and not (one.diverges and one.epoch >= 1)
        ]
        return bool(self._in_flight or self._waiting)

    def _new(self, arm: ArmView, number: int) -> NewTrial:
        """Return a search trial: replicates alternate, and each starts with the defaults, then the pairs."""
        replicates, paired = self.study.spec.budget.replicates, self.study.spec.search.paired
        parameters: Parameters = dict(arm.defaults)
        is_default = number < replicates
        if not is_default:
            parameters |= {
                name: _sampled(d, number * spread % 1)
                for (name, d), spread in zip(arm.space.items(), _SPREADS, strict=False)
            }
        rank, replicate = divmod(number, replicates)
        return NewTrial(
            arm.name,
            number,
            "default" if is_default else "sampled",
            parameters,
            seed=7 + replicate,
            replicate=replicate,
            pair_index=rank - 1 if 1 <= rank <= paired else None,
        )

    def _started(self, new: NewTrial) -> _InFlight:
        [trial] = self._writer.create([new])
        self._writer.start([trial])
        position = self._arms[new.arm].position
        best_lr = 3e-3 * (position + 1)
        lr = float(new.parameters["lr"])
        share = 0.985 - 0.004 * position - 0.06 * math.log10(lr / best_lr) ** 2
        # The search selects lucky trials. On a fresh seed luck is drawn again, mostly the same for every arm.
        if new.phase == "search":
            share -= 0.0007 * (new.number * 5 % 7)
        else:
            share += 0.001 * (new.seed % 7 - 5) + 0.0005 * (new.seed // 7 % 5 + position) % 0.002
        # A validation set of 300 has no finer steps, so ties are common.
        value = round(300 * max(0.1, share)) / 300
        return _InFlight(
            trial,
            value if self.study.workload_card.direction == "maximize" else 5.0 - 3.5 * value,
            lr > _TOO_HOT * best_lr,
        )

    def _report(self, one: _InFlight) -> Report:
        one.epoch += 1
        e, epochs, trial = one.epoch, self.study.epochs, one.trial
        fraction = (1 - math.exp(-3 * e / epochs)) / (1 - math.exp(-3))
        start = 0.1 if self.study.workload_card.direction == "maximize" else 4.6
        is_projected = trial.arm.endswith("p")
        measurement: dict[str, float | None] = {
            "epoch": e,
            "elapsed_s": (0.5 if is_projected else 0.4) * e,
            "lr": float(trial.parameters["lr"]) * 0.5 * (1 + math.cos(math.pi * e / epochs)),
            "train_loss": 2.3 * math.exp(-3 * fraction * one.value),
            "validation_loss": 2.3 * math.exp(-2.7 * fraction * one.value),
            "validation_metric": start + (one.value - start) * fraction,
            "weight_norm": 12 + (0.2 if is_projected else 0.9) * e,
            "effective_step": float(trial.parameters["lr"]) / (1 + 0.2 * e),
            "projected_fraction": 0.8 if is_projected else 0.0,
            "gradient_cosine": 0.02 / e,
        }
        if one.diverges:
            lost = dict.fromkeys(
                (
                    "train_loss",
                    "validation_loss",
                    "validation_metric",
                    "weight_norm",
                    "effective_step",
                    "gradient_cosine",
                )
            )
            return Report(
                trial.id,
                trial.attempt,
                Measurement.model_validate(measurement | lost),
                ended="diverged",
                reason="the training loss was not finite at step 31 of epoch 1",
            )
        layers = (
            _layers(e, is_projected=is_projected)
            if trial.phase == "confirmation" or not trial.number
            else None
        )
        if e < epochs:
            return Report(trial.id, trial.attempt, Measurement.model_validate(measurement), layers=layers)
        return Report(
            trial.id,
            trial.attempt,
            Measurement.model_validate(measurement),
            layers=layers,
            ended="completed",
            value=one.value,
            best_epoch=e,
            test_value=one.value - 0.005,
        )


def _layers(epoch: int, *, is_projected: bool) -> MeasuredLayers:
    """Return two layers, of which the first is scale-invariant and grows unless it is projected."""
    growth = 0.02 if is_projected else 0.3
    shares = {"projected_by_channel": (0.25, 0.0), "projected_as_layer": (0.5, 0.0)} if is_projected else {}
    return MeasuredLayers(
        names=("0.weight", "4.weight"),
        initial_norms=(4.0, 2.0) if epoch == 1 else (),
        measurement=LayerMeasurement(
            epoch=epoch,
            weight_norm=(4.0 * (1 + growth * epoch), 2.0 + 0.1 * epoch),
            effective_step=(0.01 / (1 + growth * epoch), 0.02 / epoch),
            angle=(90.0 if is_projected else 86.0, 91.0),
            **shares,
        ),
    )


def _sampled(dimension: AnyDimension, at: float) -> Scalar:
    match dimension:
        case Range(integer=True):
            return int(dimension.low + at * (dimension.high - dimension.low + 1))
        case Range(log=True):
            return float(dimension.low * (dimension.high / dimension.low) ** at)
        case Range():
            return dimension.low + at * (dimension.high - dimension.low)
        case Choices():
            return dimension.choices[int(at * len(dimension.choices))]
        case Fixed():
            return dimension.value
