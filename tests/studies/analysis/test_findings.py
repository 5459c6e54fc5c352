import pytest
from records import Arm, around, falling, record

from studies.analysis.analyse import analyse
from studies.states import StudyState

__all__: list[str] = []


def test_before_confirmation_the_search_has_a_leader_and_no_winner() -> None:
    arms = {"adamp": Arm(search=[0.9, 0.97, 0.95]), "adamw": Arm(search=[0.94, 0.96, 0.5])}
    finding = analyse(record(arms, state=StudyState.RUNNING)).finding
    assert finding.winner is None
    assert finding.sentence.startswith("So far, AdamP leads the search with 97.00")
    assert "AdamW follows, 1.00 points behind" in finding.sentence
    assert any("fresh seeds yet" in limit for limit in finding.limits)


def test_a_study_that_asked_for_no_confirmation_says_so() -> None:
    finding = analyse(
        record({"adamp": Arm(search=[0.9]), "adamw": Arm(search=[0.8])}, confirmation={"seeds": 0})
    ).finding
    assert finding.winner is None
    assert "nothing has been confirmed" in finding.sentence
    assert any("the study asked for no confirmation" in limit for limit in finding.limits)


def test_arms_that_wait_for_their_confirmation_are_named() -> None:
    arms = {"adamp": Arm(search=[0.9, 0.97], best=around(0.97)), "adamw": Arm(search=[0.9, 0.96])}
    finding = analyse(record(arms, state=StudyState.RUNNING)).finding
    assert finding.winner is None
    assert "AdamW has not been confirmed on fresh seeds" in finding.sentence


def test_tied_arms_share_the_lead() -> None:
    sentence = analyse(
        record({"adamp": Arm(search=[0.9]), "adamw": Arm(search=[0.9]), "sgdp": Arm(search=[0.8])})
    ).finding.sentence
    assert sentence.startswith("AdamP and AdamW share the lead")
    assert "SGDP follows, 10.00 points behind" in sentence


def test_a_study_of_one_arm_has_no_comparison() -> None:
    finding = analyse(record({"adamp": Arm(search=falling(0.97), best=around(0.96))})).finding
    assert finding.winner is None
    assert finding.sentence.startswith("AdamP reaches 96.0")
    assert "on 5 fresh seeds" in finding.sentence


def test_one_arm_whose_confirmation_only_diverged_has_no_mean() -> None:
    finding = analyse(record({"adamp": Arm(search=falling(0.97), best=["diverged"] * 3)})).finding
    assert "diverged in all 3 runs" in finding.sentence


def test_when_all_trials_diverged_the_finding_counts_them() -> None:
    finding = analyse(
        record({"adamp": Arm(search=["diverged"] * 4), "adamw": Arm(search=["diverged", "failed"])})
    ).finding
    assert "of 6 finished trials, 5 diverged, 1 failed" in finding.sentence
    assert finding.limits == ()


@pytest.mark.parametrize(
    ("state", "sentence"),
    [
        (StudyState.QUEUED, "No trial has finished yet."),
        (StudyState.RUNNING, "No trial has finished yet."),
        (StudyState.PAUSED, "The study was paused before any trial had finished."),
        (StudyState.CANCELLED, "The study was cancelled before any trial had finished."),
        (StudyState.FAILED, "The study failed before any trial had finished."),
        (StudyState.COMPLETED, "The study was completed before any trial had finished."),
    ],
)
def test_before_any_trial_has_finished_the_finding_follows_from_the_state(
    state: StudyState, sentence: str
) -> None:
    assert analyse(record({"adamp": Arm(search=["running"])}, state=state)).finding.sentence == sentence


def test_only_a_queued_study_without_running_trials_waits_for_a_dispatcher() -> None:
    def sentence(state: StudyState, trial: str) -> str:
        return analyse(record({"adamp": Arm(search=[trial])}, state=state)).finding.sentence

    assert "waiting for a dispatcher" in sentence(StudyState.QUEUED, "queued")
    assert "dispatcher" not in sentence(StudyState.QUEUED, "running")
    assert "dispatcher" not in sentence(StudyState.RUNNING, "queued")


def test_a_study_that_was_stopped_early_reports_its_finished_trials() -> None:
    arms = {"adamp": Arm(search=[0.9, 0.8, "cancelled"]), "adamw": Arm(search=[0.7, "cancelled"])}
    finding = analyse(record(arms, budget={"trials_per_arm": 10, "epochs": 4})).finding
    assert finding.limits[0] == "The study was stopped early: 3 of 20 trials finished."
    assert any("the study ended before its confirmation" in limit for limit in finding.limits)


def test_a_cancelled_study_is_called_cancelled() -> None:
    finding = analyse(record({"adamp": Arm(search=[0.9, "cancelled"])}, state=StudyState.CANCELLED)).finding
    assert finding.limits[0].startswith("The study was cancelled early: 1 of 2 trials")


def test_the_limits_name_what_the_interval_covers_the_workload_and_the_budget() -> None:
    arms = {
        "adamp": Arm(search=falling(0.97), best=around(0.97)),
        "sgdp": Arm(search=falling(0.9), best=around(0.9, turn=1)),
    }
    limits = " ".join(analyse(record(arms)).finding.limits)
    assert "covers the variation over seeds" in limits
    assert "one workload, digits mlp" in limits
    assert "40 trials per arm of 4 epochs each (sampler random)" in limits
    assert "the same 300 test examples" in limits


def test_cancelled_and_failed_confirmation_runs_are_reported() -> None:
    arms = {
        "adamp": Arm(search=falling(0.9), best=[0.9, 0.91, "cancelled"]),
        "sgdp": Arm(search=falling(0.9), best=[0.9, "failed", "cancelled"]),
    }
    limits = analyse(record(arms)).finding.limits
    assert any(
        "Of 6 confirmation runs, 2 were cancelled and 1 was lost to faults" in limit for limit in limits
    )
    assert not any("The interval of a difference" in limit for limit in limits)


def test_an_arm_whose_confirmation_runs_were_all_lost_has_the_reason() -> None:
    finding = analyse(
        record(
            {
                "adamp": Arm(search=falling(0.9), best=["failed"] * 3),
                "sgdp": Arm(search=falling(0.8), best=around(0.8)),
            }
        )
    ).finding
    assert finding.sentence.endswith("AdamP has not been confirmed on fresh seeds.")
    assert any(
        "No configuration of AdamP" in limit and "none of its runs" in limit for limit in finding.limits
    )


def test_a_search_that_was_stopped_early_is_described_as_planned() -> None:
    limits = analyse(
        record({"adamp": Arm(search=[0.9, "cancelled"])}, budget={"trials_per_arm": 10, "epochs": 4})
    ).finding.limits
    assert any("a planned search of 10 trials per arm of 4 epochs each" in limit for limit in limits)


@pytest.mark.parametrize(("workload", "better"), [("digits-mlp", 0.96), ("char-lm", 0.84)])
def test_defaults_that_beat_the_best_configuration_on_fresh_seeds_are_reported(
    workload: str, better: float
) -> None:
    search = [0.85, 0.95] if workload == "digits-mlp" else [0.95, 0.85]
    arms = {
        "sgdp": Arm(search=search, best=around(0.9), defaults=around(better, turn=1)),
        "stepper": Arm(search=search, best=around(0.9, turn=2)),
    }
    limits = analyse(record(arms, workload=workload)).finding.limits
    (limit,) = [limit for limit in limits if "the defaults of SGDP do better" in limit]
    assert "-" not in limit
    assert "\N{MINUS SIGN}" not in limit
    equal = {"sgdp": Arm(search=search, best=around(0.9), defaults=around(0.9, turn=1))}
    assert not [
        limit for limit in analyse(record(equal, workload=workload)).finding.limits if "defaults" in limit
    ]


def test_several_searches_of_a_single_arm_have_the_mean_of_all() -> None:
    lines = [falling(0.9, trials=6), falling(0.92, trials=6)]
    sentence = analyse(record({"sgdp": Arm(search=lines, best=[around(0.9), around(0.92)])})).finding.sentence
    assert sentence.startswith("SGDP reaches 91")
    assert "on 2 independent searches" in sentence
    one_lost = analyse(record({"sgdp": Arm(search=lines, best=[["diverged"] * 5, around(0.92)])})).finding
    assert "on 1 independent search;" in one_lost.sentence
    assert "The mean of SGDP leaves out 5 confirmation runs that diverged." in one_lost.limits


def test_arms_are_called_by_their_optimizers_title_unless_the_study_named_them() -> None:
    analysis = analyse(record({"adamp": Arm(search=[0.9]), "wide": Arm(search=[0.8], optimizer="adamp")}))
    assert analysis.labels == {"adamp": "AdamP", "wide": "wide"}
    assert "wide follows, 10.00 points behind" in analysis.finding.sentence
    assert analysis.arms == ("adamp", "wide")


def test_an_objective_of_the_best_epoch_is_called_optimistic() -> None:
    limits = analyse(record({"adamp": Arm(search=[0.9])}, objective={"at": "best"})).finding.limits
    assert any("best epoch by validation" in limit for limit in limits)


def test_pruned_and_failed_trials_and_unequal_budgets_are_among_the_limits() -> None:
    arms = {"adamp": Arm(search=[0.9, "pruned", "failed"]), "adamw": Arm(search=[0.9, 0.8, 0.7])}
    limits = " ".join(analyse(record(arms, pruner="asha")).finding.limits)
    assert "1 trial of 5 was pruned" in limits
    assert "1 trial was lost to faults" in limits
    assert "2 to 3 trials per arm" in limits


def test_confirmation_runs_that_are_still_open_are_counted() -> None:
    arms = {
        name: Arm(search=falling(0.9), best=[0.9, 0.91, "running", "queued"]) for name in ("adamp", "sgdp")
    }
    limits = analyse(record(arms, state=StudyState.RUNNING)).finding.limits
    assert "4 of 8 confirmation runs have not finished yet." in limits
