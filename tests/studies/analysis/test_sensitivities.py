import pytest
from records import Arm, record

from studies.analysis.analyse import analyse
from studies.analysis.views import ArmSensitivity
from studies.views import StudyRecord

__all__: list[str] = []


def _of(of: StudyRecord, arm: int = 0) -> ArmSensitivity:
    return analyse(of).sensitivity[arm]


def test_the_lr_isolation_curve_names_the_best_trial_of_each_bucket() -> None:
    rates = {n: {"lr": rate} for n, rate in enumerate([1e-3, 2e-5, 2e-4, 5e-2, 8e-2])}
    found = _of(record({"adamw": Arm(search=[0.9, 0.5, 0.7, 0.8, "diverged"], parameters=rates)}))
    assert len(found.lr) == 8
    assert (found.lr[0].low, found.lr[-1].high) == (pytest.approx(1e-5), pytest.approx(0.1))
    buckets = [(point.trials, point.diverged, point.best, point.number) for point in found.lr if point.trials]
    assert buckets == [(1, 0, 0.5, 1), (1, 0, 0.7, 2), (1, 0, 0.9, 0), (2, 1, 0.8, 3)]


def test_the_good_range_has_its_factor() -> None:
    rates = {n: {"lr": 10 ** (-4.9 + 0.5 * n)} for n in range(8)}
    found = _of(record({"adamw": Arm(search=[0.1, 0.5, 0.895, 0.9, 0.899, 0.6, 0.2, 0.1], parameters=rates)}))
    assert found.good_range is not None
    assert found.good_range.factor == pytest.approx(10**1.5)


def test_an_lr_of_choices_has_a_bucket_for_each() -> None:
    space = {"lr": {"choices": [0.1, 0.001, 0.01]}}
    rates = {n: {"lr": rate} for n, rate in enumerate([0.001, 0.01, 0.1, 0.01])}
    found = _of(record({"adamw": Arm(search=[0.5, 0.9, "diverged", 0.95], parameters=rates, space=space)}))
    assert [(p.low, p.high, p.trials, p.diverged, p.best, p.number) for p in found.lr] == [
        (0.001, 0.001, 1, 0, 0.5, 0),
        (0.01, 0.01, 2, 0, 0.95, 3),
        (0.1, 0.1, 1, 1, None, None),
    ]


def test_a_fixed_lr_has_neither_curve_nor_range() -> None:
    found = _of(record({"adamw": Arm(search=[0.9, 0.8], space={"lr": 0.01})}))
    assert (found.lr, found.good_range) == ((), None)


def test_the_decisive_hyperparameter_has_the_largest_importance_and_few_trials_have_none() -> None:
    count = 100
    rates = {
        n: {"lr": 10 ** (-5 + 4 * ((0.618 * n) % 1)), "weight_decay": 10 ** (-4 + 4 * ((0.4142 * n) % 1))}
        for n in range(count)
    }
    values = [0.9 - 0.1 * abs(float(rates[n]["lr"]) - 0.01) ** 0.5 for n in range(count)]
    importances = _of(record({"adamw": Arm(search=values, parameters=rates)})).importances
    assert sum(importances.values()) == pytest.approx(1)
    assert next(iter(importances)) == "lr"
    assert _of(record({"adamw": Arm(search=values[:10], parameters=rates)})).importances == {}


def test_tunability_has_the_rank_of_the_defaults_and_the_chance_to_beat_the_first_arms() -> None:
    arms = {"adamp": Arm(search=[0.7, 0.9]), "adamw": Arm(search=[0.6, 0.8, 0.65, 0.75, 0.5])}
    tunability = _of(record(arms), 1).tunability
    assert (tunability.defaults_value, tunability.defaults_rank, tunability.baseline) == (0.6, 4, "adamp")
    assert tunability.gain == pytest.approx(0.2)
    # Two of its four random trials beat 0.7: one draw does with a chance of 1/2, two draws of 5/6.
    assert tunability.chance_to_beat[1] == pytest.approx(1 / 2)
    assert tunability.chance_to_beat[2] == pytest.approx(5 / 6)
    assert _of(record(arms, sampler="tpe"), 1).tunability.chance_to_beat == {}


def test_defaults_that_diverged_have_no_value_and_the_last_place() -> None:
    tunability = _of(record({"adamw": Arm(search=["diverged", 0.8])})).tunability
    assert (tunability.defaults_value, tunability.gain) == (None, None)
    assert tunability.defaults_rank == 2
