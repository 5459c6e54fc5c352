from typing import Any

import pytest
from records import Arm, Outcome, around, falling, record

from studies.analysis.analyse import analyse
from studies.analysis.phrase import verdict_phrase
from studies.analysis.views import StudyAnalysis
from studies.states import StudyState

__all__: list[str] = []


def _good(value: float, *, turn: int = 0, **fields: Any) -> Arm:
    known: dict[str, Any] = {
        "search": falling(value),
        "best": around(value, turn=turn),
        "defaults": around(value - 0.05, turn=turn + 2),
    }
    return Arm(**known | fields)


def _two(first: float, second: float, **fields: Any) -> StudyAnalysis:
    return analyse(record({"sgdp": _good(first), "stepper": _good(second, turn=1)}, **fields))


def test_a_large_and_steady_difference_is_a_verdict_with_its_interval_and_n() -> None:
    analysis = _two(0.95, 0.8)
    (pair,) = analysis.pairs
    assert (pair.word, pair.n, analysis.finding.winner) == ("better", 5, "sgdp")
    assert pair.low is not None
    assert pair.high is not None
    assert 0 < pair.low < 0.15 < pair.high
    assert analysis.finding.sentence.startswith(
        "SGDP is better than Stepper by 14.96 points (14.62 to 15.30)"
    )
    assert analysis.finding.sentence.endswith("in test accuracy on 5 seeds.")
    assert "p = " in pair.reason or "p < " in pair.reason
    assert "Holm" in pair.reason


def test_the_reason_names_the_better_arm_first_whichever_stands_first() -> None:
    analysis = _two(0.8, 0.95)
    assert analysis.pairs[0].word == "worse"
    assert analysis.pairs[0].reason.startswith("Stepper is better than SGDP by 15")
    assert analysis.finding.winner == "stepper"


def test_a_small_difference_is_undecided_and_no_arm_wins() -> None:
    analysis = _two(0.95, 0.9495)
    assert analysis.pairs[0].word == "undecided"
    assert analysis.finding.winner is None
    assert "undecided" in analysis.finding.sentence


def test_if_lower_is_better_the_smaller_mean_wins_by_a_positive_amount() -> None:
    losses = [1.2 + 0.0005 * ((7 * n + 3) % 40) for n in range(40)]
    arms = {
        "sgdp": Arm(search=losses, best=around(1.2)),
        "stepper": Arm(search=[value + 0.4 for value in losses], best=around(1.6, turn=1)),
    }
    analysis = analyse(record(arms, workload="char-lm"))
    assert analysis.finding.winner == "sgdp"
    assert "SGDP is better than Stepper by 0.4" in analysis.finding.sentence
    assert "nats per character" in analysis.finding.sentence


def test_with_several_arms_the_finding_names_the_next_best() -> None:
    arms = {"sgdp": _good(0.95), "stepper": _good(0.8, turn=1), "adamw": _good(0.7, turn=3)}
    analysis = analyse(record(arms))
    assert analysis.finding.winner == "sgdp"
    assert (
        "better than each of the 2 other arms on 5 seeds; it beats Stepper, the next best, "
        "by 14.96 points (14.62 to 15.30)"
    ) in analysis.finding.sentence
    assert [rank.arm for rank in analysis.ranks] == ["sgdp", "stepper", "adamw"]
    assert len(analysis.pairs) == 3


def test_a_leader_that_does_not_beat_every_arm_is_not_the_winner() -> None:
    arms = {"sgdp": _good(0.95), "stepper": _good(0.9495, turn=1), "adamw": _good(0.7, turn=3)}
    finding = analyse(record(arms)).finding
    assert finding.winner is None
    assert finding.sentence.startswith("No arm is better than all others. SGDP leads")
    assert "better than AdamW and the comparison with Stepper is undecided" in finding.sentence


def test_runs_that_diverged_count_against_an_arm_and_are_reported() -> None:
    runs = ["diverged" if n < 4 else 0.9 for n in range(8)]
    analysis = analyse(
        record({"sgdp": _good(0.9, best=around(0.9, seeds=8)), "stepper": _good(0.9, best=runs)})
    )
    (pair,) = analysis.pairs
    assert pair.covers == "signs"
    assert "Stepper diverged in 4 runs" in pair.reason
    assert any("leaves out 4 confirmation runs that diverged" in limit for limit in analysis.finding.limits)


def test_a_verdict_by_signs_gives_no_mean_without_the_diverged_runs() -> None:
    # SGDP loses because it diverges, although it is ahead in every pair that finishes.
    runs = [0.95 if n < 1 else "diverged" for n in range(10)]
    analysis = analyse(
        record({"sgdp": _good(0.95, best=runs), "stepper": _good(0.9, best=around(0.9, seeds=10))})
    )
    assert analysis.pairs[0].word == "worse"
    assert analysis.pairs[0].covers == "signs"
    opening = "Stepper is better than SGDP on 10 seeds (SGDP diverged in 9 runs; "
    assert analysis.pairs[0].reason.startswith(opening)
    assert analysis.finding.sentence.startswith(opening)


def test_an_arm_that_never_completed_a_trial_does_not_hide_the_verdict_of_the_others() -> None:
    arms = {"sgdp": _good(0.8), "stepper": _good(0.95, turn=1), "adamw": Arm(search=["failed"] * 40)}
    finding = analyse(record(arms)).finding
    # Nothing is known about an arm that was lost to faults, so no arm is better than all others.
    assert finding.winner is None
    assert finding.sentence.startswith("No trial of AdamW has a usable value: 40 trials failed; ")
    assert "Stepper is better than SGDP by 15.04 points" in finding.sentence


def test_no_lead_is_negative_while_an_arm_has_no_completed_trial_yet() -> None:
    arms = {
        "sgdp": _good(0.949),
        "stepper": _good(0.95, turn=1),
        "adamw": Arm(search=["diverged", "running"]),
    }
    sentence = analyse(record(arms, state=StudyState.RUNNING)).finding.sentence
    assert sentence.startswith("So far, ")
    assert "undecided: Stepper is ahead by 0.14 points" in sentence


def test_tied_arms_are_called_tied_and_divergence_is_not_mentioned() -> None:
    analysis = analyse(
        record({"sgdp": _good(0.95, best=[0.95] * 5), "stepper": _good(0.95, best=[0.95] * 5)})
    )
    assert analysis.pairs[0].word == "undecided"
    assert "the arms are tied on 5 seeds" in analysis.finding.sentence
    assert "diverged" not in " ".join(analysis.finding.limits)


def test_a_rounding_difference_does_not_count_as_a_lead() -> None:
    shifted = [0.95 + noise for noise in (0.0, 0.002, -0.002, 0.001, -0.001)]
    turned = [0.95 + noise for noise in (0.002, 0.0, 0.001, -0.002, -0.001 + 1e-17)]
    (pair,) = analyse(record({"sgdp": _good(0.95, best=shifted), "stepper": _good(0.95, best=turned)})).pairs
    assert "the arms are tied on 5 seeds" in pair.reason
    assert "effect size" not in pair.reason


def test_repeated_searches_are_counted_as_searches_by_signs_too() -> None:
    lines = [falling(0.9, trials=6), ["diverged"] * 6]
    arms = {
        "sgdp": Arm(search=lines, best=[around(0.9), []]),
        "stepper": Arm(search=[falling(0.9, trials=6)] * 2, best=[around(0.9)] * 2),
    }
    sentence = analyse(record(arms)).finding.sentence
    assert "on 2 independent searches (every trial diverged in 1 search of SGDP)" in sentence


def test_the_leader_of_repeated_searches_has_the_mean_of_all_of_them() -> None:
    levels = {
        "sgdp": (0.95, 0.94, 0.96, 0.955),
        "stepper": (0.951, 0.942, 0.957, 0.95),
        "adamw": (0.7, 0.71, 0.72, 0.7),
    }
    arms = {
        name: Arm(search=[falling(level, trials=12) for level in each], best=[[level] * 5 for level in each])
        for name, each in levels.items()
    }
    sentence = analyse(record(arms)).finding.sentence
    assert sentence.startswith(
        "No arm is better than all others. SGDP leads with "
        "95.1\N{NO-BREAK SPACE}% (93.8 to 96.5) test accuracy"
    )
    assert "on 4 independent searches; it is better than AdamW" in sentence


def test_two_searches_that_found_the_same_configuration_share_its_runs() -> None:
    same = {5: {"lr": 0.003}, 11: {"lr": 0.003}}
    values: list[Outcome] = [0.8, 0.81, 0.82, 0.83, 0.84, 0.9]
    shared = record({"sgdp": Arm(search=[values, values], best=[around(0.9), []], parameters=same)})
    analysis = analyse(shared)
    assert [(each.replicate, each.number, each.completed) for each in analysis.confirmed] == [
        (0, 5, 5),
        (1, 11, 5),
    ]
    assert analysis.confirmed[0].runs == analysis.confirmed[1].runs
    assert analysis.time_to_target[0].runs == 5


def test_a_single_seed_decides_nothing() -> None:
    analysis = analyse(record({"sgdp": _good(0.95, best=[0.95]), "stepper": _good(0.5, best=[0.5])}))
    assert analysis.pairs[0].word == "undecided"
    assert "single pair" in analysis.pairs[0].reason
    assert any("With 1 fresh seed" in limit for limit in analysis.finding.limits)


def test_an_arm_all_of_whose_trials_diverged_does_not_keep_the_others_from_a_verdict() -> None:
    arms = {"sgdp": _good(0.95), "stepper": _good(0.8, turn=1), "adamw": Arm(search=["diverged"] * 40)}
    analysis = analyse(record(arms))
    assert analysis.finding.winner == "sgdp"
    assert analysis.finding.sentence.startswith("No trial of AdamW has a usable value: 40 trials diverged; ")
    assert (analysis.checks[0].kind, analysis.checks[0].arm) == ("no-usable-value", "adamw")
    assert {(pair.first, pair.second): pair.n for pair in analysis.pairs}["sgdp", "adamw"] == 0


def test_an_arm_that_loses_to_one_in_its_space_is_called_under_tuned_and_not_worse() -> None:
    space = {"delta": {"choices": [0.0, 0.1]}}
    analysis = analyse(record({"adamp": _good(0.8, space=space), "adamw": _good(0.95, turn=1)}))
    assert analysis.pairs[0].word == "worse"
    assert (
        "AdamP is identical to AdamW at delta = 0, which its space includes: it is under-tuned, not worse"
        in analysis.pairs[0].reason
    )
    assert "under-tuned, not worse" in analysis.finding.sentence
    check = next(check for check in analysis.checks if check.kind == "under-tuned")
    assert check.is_warning
    assert check.spec is not None
    assert check.spec["budget"]["trials_per_arm"] == 80


def test_an_arm_whose_space_leaves_the_contained_one_out_is_judged_as_it_was_searched() -> None:
    analysis = analyse(record({"adamp": _good(0.8), "adamw": _good(0.95, turn=1)}))
    assert "applies to AdamP as it was searched" in analysis.pairs[0].reason
    assert "under-tuned, not worse" not in analysis.pairs[0].reason
    check = next(check for check in analysis.checks if check.kind == "under-tuned")
    assert "as it was searched" in check.sentence
    assert check.spec is None


def test_an_arm_that_beats_the_one_it_contains_is_not_called_under_tuned() -> None:
    analysis = analyse(record({"adamp": _good(0.95), "adamw": _good(0.8, turn=1)}))
    assert not [check for check in analysis.checks if check.kind == "under-tuned"]
    assert "under-tuned" not in analysis.finding.sentence


def test_every_replicate_brings_its_own_best_and_the_verdict_rests_on_searches() -> None:
    arms = {
        name: Arm(
            search=[falling(best + 0.002 * r, trials=12) for r in range(4)],
            best=[around(best + 0.002 * r, turn=r) for r in range(4)],
        )
        for name, best in (("sgdp", 0.95), ("stepper", 0.8))
    }
    analysis = analyse(record(arms))
    assert [(each.arm, each.replicate) for each in analysis.confirmed] == [
        (name, r) for name in arms for r in range(4)
    ]
    assert analysis.pairs[0].covers == "replicates"
    assert analysis.pairs[0].word == "better"
    assert "4 independent searches" in analysis.finding.sentence


def test_a_search_among_several_that_only_diverged_counts_as_worst() -> None:
    lines = [falling(0.9, trials=6), ["diverged"] * 6]
    arms = {
        "sgdp": Arm(search=lines, best=[around(0.9), []]),
        "stepper": Arm(search=[falling(0.9, trials=6)] * 2, best=[around(0.9)] * 2),
    }
    assert analyse(record(arms)).pairs[0].covers == "signs"


@pytest.mark.parametrize("state", [StudyState.RUNNING, StudyState.PAUSED, StudyState.QUEUED])
def test_the_finding_of_an_open_study_says_so_far(state: StudyState) -> None:
    assert _two(0.95, 0.8, state=state).finding.sentence.startswith("So far, SGDP is better")


@pytest.mark.parametrize(
    ("words", "phrase"),
    [
        ("SGDP>AdamW", "SGDP better than AdamW, Stepper undecided"),
        ("SGDP>Stepper Stepper>AdamW", "SGDP better than Stepper, AdamW undecided"),
        ("SGDP>AdamW Stepper>AdamW", "SGDP and Stepper better than AdamW"),
        ("SGDP>AdamW SGDP>Stepper", "SGDP better than Stepper and AdamW"),
        ("AdamW>SGDP AdamW>Stepper", "AdamW better than SGDP and Stepper"),
        ("SGDP>Stepper Stepper>AdamW AdamW>SGDP", "no arm leads"),
        ("", "undecided"),
    ],
)
def test_the_phrase_calls_an_arm_better_only_than_arms_that_it_beats(words: str, phrase: str) -> None:
    arms = {"sgdp": _good(0.9), "stepper": _good(0.9, turn=1), "adamw": _good(0.9, turn=3)}
    analysis = analyse(record(arms))
    better = {tuple(word.split(">")) for word in words.split()}

    def word(first: str, second: str) -> str:
        names = analysis.labels[first], analysis.labels[second]
        return "better" if names in better else "worse" if names[::-1] in better else "undecided"

    pairs = tuple(pair.model_copy(update={"word": word(pair.first, pair.second)}) for pair in analysis.pairs)
    assert verdict_phrase(analysis.model_copy(update={"pairs": pairs})) == phrase
