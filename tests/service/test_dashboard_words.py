from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from catalogs import catalog
from trained_studies import Trained

from service.dashboard.captions import headline, leader
from service.dashboard.cautions import cautions
from service.dashboard.numbers import ABSENT, count, difference, duration, instant, metric, number, plural, scalar
from service.dashboard.situation import is_attended, situation
from service.dashboard.theme import arm_style
from service.dashboard.trials_csv import trials_csv
from studies.states import StudyMove, StudyState
from studies.store import Store
from studies.views import ArmView, Best, StudyView

NBSP = "\N{NO-BREAK SPACE}"


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (number(0.000123456), "0.0001235"),
        (number(1234567.0), "1.235×10⁶"),
        (number(-1.2e-5), "−1.2×10⁻⁵"),
        (number(-2.5), "−2.5"),
        (number(float("nan")), ABSENT),
        (number(float("inf")), ABSENT),
        (metric(0.98123, "fraction"), f"98.12{NBSP}%"),
        (metric(1.82345, "nats per character"), "1.823"),
        (metric(1.8, "nats per character"), "1.800"),
        (metric(1234.0, "points"), "1234"),
        (metric(None, "fraction"), ABSENT),
        (difference(0.981, 0.977, "fraction"), "0.40 points"),
        (difference(1.8, 1.9, "nats per character"), "0.1 nats per character"),
        (scalar(True), "true"),
        (scalar(1), "1"),
        (scalar("plain"), "plain"),
        (scalar(0.1 + 0.2), "0.3"),
        (scalar(1.2e-5), "1.2e-05"),
        (scalar(None), ABSENT),
        (count(12345), "12,345"),
        (plural(1, "trial"), "1 trial"),
        (plural(1200, "trial"), "1,200 trials"),
        (instant(datetime(2026, 11, 1, 9, 5, tzinfo=UTC)), "1 Nov 2026, 09:05:00 UTC"),
        (instant(None), ABSENT),
    ],
)
def test_numbers_are_short_and_never_nan(written: str, expected: str) -> None:
    assert written == expected


@pytest.mark.parametrize(
    ("seconds", "expected"),
    [
        (0.0, "0.00 s"),
        (9.994, "9.99 s"),
        (9.996, "10.0 s"),
        (59.94, "59.9 s"),
        (59.96, "1 min 00 s"),
        (3599.6, "1 h 00 min"),
        (86369.0, "23 h 59 min"),
        (86371.0, "1 d 0 h"),
        (None, ABSENT),
        (float("inf"), ABSENT),
    ],
)
def test_seconds_are_humanised_and_never_read_sixty(seconds: float | None, expected: str) -> None:
    assert duration(seconds).replace(NBSP, " ") == expected


def with_best(arm: ArmView, value: float | None, **progress: int) -> ArmView:
    counts = arm.progress.model_copy(update={"finished": 12, "completed": 12, "trials": 12} | progress)
    best = None
    if value is not None:
        best = Best(trial_id="s.a.3", number=3, value=value, test_value=value, epoch=2, parameters={**arm.defaults, "lr": 3e-3}, python="", call="")
    return arm.model_copy(update={"best": best, "progress": counts})


def played(store: Store, **fields: Any) -> tuple[StudyView, list[ArmView]]:
    study = Trained(store, **fields).train().close().study
    return store.study(study.id), list(store.arms(study.id))


def test_the_headline_states_who_leads_by_how_much_and_that_nothing_is_confirmed(known: Store) -> None:
    study, arms = played(known)
    said = headline(study, [with_best(arms[0], 0.981), with_best(arms[1], 0.977)])
    assert said.finding == f"AdamP leads with 98.10{NBSP}% validation accuracy after 12 trials per arm; second is AdamW, 0.40 points behind."
    assert "trained once" in said.limits[0]
    assert said.limits[1] == "An accuracy on 300 validation examples has a standard error of about 0.79 points."
    assert said.limits[-1] == "No configuration has been confirmed on fresh seeds."
    assert "win" not in " ".join((said.finding, *said.limits)).lower()


def test_level_arms_share_the_lead(known: Store) -> None:
    study, arms = played(known, arms=["adamp", "adamw", "stepper"])
    said = headline(study, [with_best(arms[0], 0.9), with_best(arms[1], 0.98), with_best(arms[2], 0.98, completed=10, diverged=1)])
    assert said.finding == (
        f"AdamW and Stepper lead level with 98.00{NBSP}% validation accuracy after 11 to 12 trials per arm; next is AdamP, 8.00 points behind."
    )
    assert leader([with_best(arms[1], 0.98), with_best(arms[2], 0.98)], study.workload_card) == f"AdamW, Stepper 98.00{NBSP}%"


def test_where_lower_is_better_the_lowest_leads(known: Store) -> None:
    study, arms = played(known, workload="char-lm")
    said = headline(study, [with_best(arms[0], 1.82), with_best(arms[1], 1.8)])
    assert said.finding == (
        "AdamW leads with 1.800 nats per character validation loss after 12 trials per arm; second is AdamP, 0.02 nats per character behind."
    )


def test_an_arm_without_a_completed_trial_is_no_competitor(known: Store) -> None:
    study, arms = played(known)
    assert "no other arm has completed a trial" in headline(study, [with_best(arms[0], 0.9), with_best(arms[1], None)]).finding
    assert headline(study, [with_best(arms[0], 0.9)]).finding == f"AdamP has reached 90.00{NBSP}% validation accuracy after 12 trials."


def test_a_study_under_way_says_so_far(known: Store) -> None:
    run = Trained(known).train(4)
    assert headline(known.study(run.id), known.arms(run.id)).finding.startswith("So far, ")


def test_cautions_name_divergence_edges_faults_and_containment(known: Store) -> None:
    study, arms = played(known)
    behind = with_best(arms[0], 0.97, diverged=2, completed=10, failed=1)
    edge = with_best(arms[1], 0.98)
    assert edge.best is not None
    edge = edge.model_copy(update={"best": edge.best.model_copy(update={"parameters": {**arms[1].defaults, "lr": 0.09}})})
    said = cautions(study, [behind, edge])
    assert said[0] == "Diverged: AdamP 2 of 12 trials."
    assert said[1] == "Lost to faults of machine or workload, which say nothing of the optimizer: AdamP 1."
    assert said[2] == "AdamW: the best lr, 0.09, lies at the upper edge of its range (1e-05 to 0.1); a wider one might do better."
    assert said[3].startswith("AdamP is AdamW at delta = 0, yet it is 1.00 points behind")
    assert cautions(study, [with_best(arms[0], 0.98), with_best(arms[1], 0.98)]) == ()


def test_a_default_that_beats_its_range_is_a_caution(known: Store) -> None:
    hot = {"optimizer": "adamw", "space": {"lr": {"low": 0.05, "high": 0.1, "log": True}}}
    study, arms = played(known, arms=[hot])
    assert cautions(study, arms)[-1] == "AdamW: its default lr, 0.001, did better than all that was tried in its range (0.05 to 0.1)."


def test_a_queued_study_says_whether_anyone_will_come(known: Store) -> None:
    now = datetime.now(UTC)
    assert not is_attended({}, now)
    assert not is_attended({"a": now - timedelta(minutes=2)}, now)
    assert is_attended({"a": now - timedelta(minutes=2), "b": now - timedelta(seconds=5)}, now)
    study = Trained(known).study
    assert situation(study, has_dispatcher=False).startswith("No dispatcher is running.")
    assert situation(study, has_dispatcher=True) == "A dispatcher will start it when it has room."


def test_each_end_of_a_study_tells_what_happened(known: Store) -> None:
    study, _ = played(known)
    assert situation(study, has_dispatcher=True).startswith("All 6 trials have ended")
    half = Trained(known).train(3)
    known.move(half.id, StudyMove.STOP)
    half.close()
    assert "4 of 6 trials were not trained to their end" in situation(known.study(half.id), has_dispatcher=True)
    lost = Trained(known).train(3).close(StudyMove.FAIL, reason="the disk is full")
    assert "The disk is full. 2 of 6 trials had completed." in situation(known.study(lost.id), has_dispatcher=True)


@pytest.mark.parametrize("state", list(StudyState))
def test_every_state_has_its_words_before_anything_ran(known: Store, state: StudyState) -> None:
    run = Trained(known)
    study = known.study(run.id).model_copy(update={"state": state})
    assert situation(study, has_dispatcher=True).endswith(".")
    assert headline(study, known.arms(run.id)).finding.endswith(".")


def test_64_arms_all_look_different() -> None:
    styles = [arm_style(position) for position in range(64)]
    assert len({(style.colour, style.dash, style.marker) for style in styles}) == 64
    assert len({(style.colour, style.marker) for style in styles[:8]}) == 8


def test_a_formula_in_a_reason_is_text_in_csv(known: Store) -> None:
    run = Trained(known).train()
    trial = known.every_trial(run.id)[0].model_copy(update={"reason": "=HYPERLINK(1)", "worker": "-x"})
    assert "'=HYPERLINK(1)" in trials_csv([trial])
    assert "'-x" in trials_csv([trial])
