from typing import Any

import pytest
from records import Arm, Outcome, around, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.views import Check, CheckKind
from studies.states import StudyState
from studies.trials import CardDifference, CheckResult
from studies.views import StudyRecord

__all__: list[str] = []


def _of(kind: CheckKind, of: StudyRecord) -> list[Check]:
    return [check for check in analyse(of).checks if check.kind == kind]


def test_data_that_differs_from_the_card_is_a_warning_and_a_small_overlap_a_note() -> None:
    differences = (
        CardDifference(kind="examples", split="train", expected=1000, found=999),
        CardDifference(kind="overlap", split="validation", other="train", expected=300, found=3),
        CardDifference(kind="overlap", split="test", other="train", expected=300, found=2),
    )
    whole = record({"adamp": Arm(search=[0.9])})
    study = whole.study.model_copy(update={"card_differences": differences})
    checks = _of("card-differs", whole.model_copy(update={"study": study}))
    assert [check.is_warning for check in checks] == [True, True, False]
    assert [check.figures["found"] for check in checks] == [999, 3, 2]


def test_errors_and_warnings_of_the_workloads_check_are_shown_once() -> None:
    found = (
        CheckResult("data", "ok", "64 examples"),
        CheckResult("speed", "note", "1 ms for a step"),
        CheckResult("separate splits", "warning", "2 inputs of the test split occur in the train split"),
        CheckResult("card: epoch_s", "warning", "the card says 1 s for an epoch", "moons.py:12"),
    )
    whole = record({"adamp": Arm(search=[0.9])})
    overlap = CardDifference(kind="overlap", split="test", other="train", expected=300, found=2)

    def shown(*differences: CardDifference) -> list[str]:
        update = {"check_results": found, "card_differences": differences}
        study = whole.study.model_copy(update=update)
        return [check.sentence for check in _of("workload-check", whole.model_copy(update={"study": study}))]

    assert [str(found[2]) in shown()[0], str(found[3]) in shown()[1]] == [True, True]
    assert [str(found[3]) in sentence for sentence in shown(overlap)] == [True]
    assert str(found[3]).endswith("(moons.py:12)")


def test_divergence_is_reported_per_arm_with_its_interval_and_where_it_begins() -> None:
    rates = {n: {"lr": 0.001 * 2**n} for n in range(6)}
    arms = {
        "adamp": Arm(search=[0.9, 0.9, 0.9, "diverged", 0.8, "diverged"], parameters=rates),
        "adamw": Arm(search=[0.9] * 6),
    }
    (check,) = _of("divergence", record(arms))
    assert check.arm == "adamp"
    assert check.is_warning
    assert check.figures == pytest.approx(
        {
            "diverged": 2,
            "trials": 6,
            "share": 1 / 3,
            "low": 0.0968,
            "high": 0.7000,
            "lr_from": 0.008,
            "trials_from": 3,
        },
        abs=1e-3,
    )


def test_little_divergence_is_for_information_unless_the_best_itself_diverged() -> None:
    search = [*falling(0.9, trials=19), "diverged"]
    assert not _of("divergence", record({"adamp": Arm(search=search)}))[0].is_warning
    (check,) = _of("divergence", record({"adamp": Arm(search=search, best=[0.9, "diverged"])}))
    assert check.is_warning
    assert check.figures["confirmations"] == 1
    (check,) = _of("divergence", record({"adamp": Arm(search=falling(0.9), best=[0.9, "diverged"])}))
    assert (check.figures["diverged"], check.figures["confirmations"]) == (0, 1)


def test_a_search_of_fewer_than_ten_trials_for_each_hyperparameter_is_too_small() -> None:
    (check,) = _of(
        "too-few-trials", record({"sgdp": Arm(search=[0.9] * 12, space={"momentum": 0.9, "wd_ratio": 0.1})})
    )
    assert check.is_warning
    assert check.figures == {"trials": 12, "dimensions": 2, "asked": 20}
    assert not _of(
        "too-few-trials", record({"sgdp": Arm(search=[0.9] * 20, space={"momentum": 0.9, "wd_ratio": 0.1})})
    )


def test_a_search_of_its_whole_space_is_large_enough() -> None:
    space = {"lr": {"choices": [0.001, 0.01, 0.1]}, "weight_decay": 0.01}
    known = {n: {"lr": 10.0 ** (n - 3)} for n in range(3)}
    assert not _of(
        "too-few-trials",
        record({"adamw": Arm(search=[0.9, 0.8, 0.7], space=space, parameters=known)}, sampler="grid"),
    )


def test_a_hyperparameter_that_was_switched_off_in_all_the_best_trials_is_inert() -> None:
    (check,) = _of("inert-hyperparameter", record({"adamp": Arm(search=[0.9] * 8)}))
    assert list(check.figures) == ["wd_ratio"]
    assert not check.is_warning
    decayed = {n: {"weight_decay": 0.01} for n in range(8)}
    assert not _of("inert-hyperparameter", record({"adamp": Arm(search=[0.9] * 8, parameters=decayed)}))


def test_a_hyperparameter_of_no_importance_is_named_with_its_share() -> None:
    # The value depends on lr alone; weight_decay is spread evenly over its range.
    count = 200
    lr = [10 ** (-5 + 4 * ((0.618 * n) % 1)) for n in range(count)]
    decay = [10 ** (-4 + 4 * ((0.4142 * n) % 1)) for n in range(count)]
    values = [0.9 - 0.1 * abs(rate - 0.01) ** 0.5 for rate in lr]
    parameters = {n: {"lr": lr[n], "weight_decay": decay[n]} for n in range(count)}
    (check,) = _of("inert-hyperparameter", record({"adamw": Arm(search=values, parameters=parameters)}))
    assert check.figures["weight_decay"] < 0.02


def test_unequal_budgets_are_reported_once_a_study_has_closed() -> None:
    arms = {"adamp": Arm(search=[0.9] * 4), "adamw": Arm(search=[0.9] * 8)}
    check = _of("unequal-budgets", record(arms))[0]
    assert check.is_warning
    assert check.figures == {"fewest_trials": 4, "most_trials": 8, "fewest_epochs": 16, "most_epochs": 32}
    assert not _of("unequal-budgets", record(arms, state=StudyState.RUNNING))


def test_defaults_that_are_not_on_a_grid_do_not_count_as_budget() -> None:
    def on_grid(ks: list[int], *, defaults: list[int]) -> Arm:
        parameters = {n: {"k": k} for n, k in enumerate([*defaults, *ks])}
        space = {"lr": 0.01, "k": {"choices": ks}, "rule": "plain"}
        return Arm(search=[0.9] * len(parameters), parameters=parameters, optimizer="stepper", space=space)

    arms = {"off": on_grid([2, 3, 4], defaults=[5]), "on": on_grid([5, 6, 7], defaults=[])}
    assert not any(
        "most_trials" in check.figures for check in _of("unequal-budgets", record(arms, sampler="grid"))
    )
    fewer = {**arms, "on": on_grid([5, 6], defaults=[])}
    assert _of("unequal-budgets", record(fewer, sampler="grid"))[0].figures["fewest_trials"] == 2


def test_epochs_that_differ_because_trials_ended_early_are_not_called_unequal_budgets() -> None:
    checks = _of(
        "unequal-budgets",
        record({"adamp": Arm(search=[0.9, "diverged", "diverged"]), "adamw": Arm(search=[0.9] * 3)}),
    )
    assert checks[0].figures == {"fewest_epochs": 6, "most_epochs": 12}
    assert not checks[0].is_warning


def test_unequal_seconds_are_for_information() -> None:
    arms = {"adamp": Arm(search=[0.9] * 4, cost_s=3.0), "adamw": Arm(search=[0.9] * 4)}
    (check,) = _of("unequal-budgets", record(arms))
    assert not check.is_warning
    assert check.figures == {"shortest_s": 4.0, "longest_s": 12.0}


def _trained(curve: list[float], **fields: Any) -> StudyRecord:
    arm = Arm(search=[curve[-1]], curves=curve, **fields)
    return record({"adamp": arm}, budget={"trials_per_arm": 1, "epochs": len(curve)})


def test_a_best_that_improves_to_its_last_epoch_asks_for_more_epochs() -> None:
    (check,) = _of("still-improving", _trained([0.1 * n for n in range(1, 11)]))
    assert check.is_warning
    assert check.figures == pytest.approx({"gain": 0.2, "share": 2 / 9, "last_epochs": 2, "runs": 1})


def test_a_best_that_has_levelled_off_asks_for_nothing() -> None:
    assert not _of(
        "still-improving", _trained([0.5, 0.7, 0.8, 0.85, 0.88, 0.889, 0.8895, 0.89, 0.8901, 0.8901])
    )


def test_still_improving_is_judged_by_the_confirmation_runs_where_there_are_some() -> None:
    (check,) = _of("still-improving", _trained([0.1 * n for n in range(1, 11)], best=around(0.9, seeds=3)))
    assert check.figures["runs"] == 3


def test_few_epochs_do_not_show_whether_a_curve_still_improves() -> None:
    assert not _of("still-improving", _trained([0.1, 0.2, 0.3, 0.4]))


def test_a_leader_that_differs_between_validation_and_test_is_reported() -> None:
    arms = {
        "adamp": Arm(search=falling(0.9), best=around(0.9), shift=0.05),
        "adamw": Arm(search=falling(0.9), best=around(0.92, turn=1)),
    }
    (check,) = _of("splits-disagree", record(arms))
    assert check.figures["validation_gap"] == pytest.approx(0.03, abs=0.001)
    assert check.figures["test_gap"] == pytest.approx(0.02, abs=0.001)


def test_splits_that_agree_are_not_reported() -> None:
    arms = {
        "adamp": Arm(search=falling(0.9), best=around(0.9)),
        "adamw": Arm(search=falling(0.9), best=around(0.92, turn=1)),
    }
    assert not _of("splits-disagree", record(arms))


def test_faults_of_search_and_confirmation_are_counted_and_warn_where_they_are_many() -> None:
    arms = {"adamp": Arm(search=[0.9, "failed"], best=[0.9, "failed"]), "adamw": Arm(search=[0.9, 0.8])}
    (check,) = _of("faults", record(arms))
    assert check.is_warning
    assert check.figures == {"failed": 2, "trials": 6}
    assert not _of("faults", record({"adamw": Arm(search=[0.9, 0.8])}))


def test_before_any_verdict_an_arm_behind_one_that_it_contains_is_reported_as_information() -> None:
    (check,) = _of(
        "under-tuned",
        record({"adamp": Arm(search=[0.9]), "adamw": Arm(search=[0.95])}, state=StudyState.RUNNING),
    )
    assert not check.is_warning
    assert check.figures["behind"] == pytest.approx(0.05)
    assert check.spec is None


def test_warnings_come_before_information() -> None:
    arms = {"adamp": Arm(search=[0.9] * 8, cost_s=5.0), "adamw": Arm(search=[0.9, *["diverged"] * 7])}
    warnings = [check.is_warning for check in analyse(record(arms)).checks]
    assert warnings == sorted(warnings, reverse=True)
    assert True in warnings
    assert False in warnings


def test_what_holds_for_every_arm_is_one_check() -> None:
    search: list[Outcome] = [0.9, 0.8, "diverged", 0.85]
    arms = {"sgdp": Arm(search=search), "stepper": Arm(search=[*search, "diverged"])}
    for kind in ("too-few-trials", "divergence"):
        (check,) = _of(kind, record(arms))
        assert check.arm is None
        assert {name.split(".")[0] for name in check.figures} == set(arms)
    one_only = {"sgdp": Arm(search=search), "stepper": Arm(search=[0.9] * 4)}
    (check,) = _of("divergence", record(one_only))
    assert check.arm == "sgdp"
