import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from catalogs import catalog, study_body
from trained_studies import Trained

from service.dashboard.leader_text import describe_leader
from service.dashboard.status_text import describe_status
from service.dashboard.study_fields import FIELDS
from service.dashboard.theme import arm_style
from service.dispatcher_health import DispatcherHealth
from studies.arm_styles import style_numbers
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState
from studies.store import Store
from studies.store.catalog import Heartbeat
from studies.views import ArmView, Best, BestValue, StudyView

NBSP = "\N{NO-BREAK SPACE}"


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


def with_best(arm: ArmView, value: float | None, **progress: int) -> ArmView:
    counts = arm.progress.model_copy(update={"finished": 12, "completed": 12, "trials": 12} | progress)
    best = None
    if value is not None:
        best = Best(
            trial_id="s.a.3",
            number=3,
            value=value,
            test_value=value,
            epoch=2,
            parameters={**arm.defaults, "lr": 3e-3},
            python="",
            call="",
        )
    return arm.model_copy(update={"best": best, "progress": counts})


def played(store: Store, **fields: Any) -> tuple[StudyView, list[ArmView]]:
    study = Trained(store, **fields).train().close().study
    return store.study(study.id), list(store.arms(study.id))


TITLES = {"adamp": "AdamP", "adamw": "AdamW", "stepper": "Stepper"}


def best(arm: str, *values: float, optimizer: str | None = None) -> BestValue:
    return BestValue(arm=arm, optimizer=optimizer or arm, highest=max(values), lowest=min(values))


def test_level_arms_share_the_lead(known: Store) -> None:
    card = known.catalog().workloads["digits-mlp"]
    values = [best("adamp", 0.9, 0.99 - 0.5), best("adamw", 0.98, 0.1), best("stepper", 0.98)]
    assert describe_leader(values, card, TITLES) == f"AdamW, Stepper 98.00{NBSP}%"


def test_the_lowest_value_leads_if_lower_is_better(known: Store) -> None:
    card = known.catalog().workloads["char-lm"]
    assert (
        describe_leader([best("adamp", 1.82, 9.0), best("wide", 1.8, 9.5, optimizer="adamw")], card, TITLES)
        == "wide 1.800"
    )
    assert describe_leader([], card, TITLES) is None


def test_a_queued_study_says_whether_a_dispatcher_is_running(known: Store) -> None:
    now = datetime.now(UTC)
    old, new = Heartbeat(now - timedelta(minutes=2)), Heartbeat(now - timedelta(seconds=5))
    for heartbeats, alive in (({}, 0), ({"a": old}, 0), ({"a": old, "b": new}, 1)):
        health = DispatcherHealth.of(heartbeats, now=now)
        assert (health.alive, health.outage is None) == (alive, bool(alive))
    study = Trained(known).study
    assert describe_status(study, outage="No Ray.") == "No Ray."
    assert "No Ray." not in describe_status(study)


def test_a_study_with_running_trials_waits_for_no_dispatcher(known: Store) -> None:
    run = Trained(known, width=2).train(1)
    study = known.study(run.id)
    for state in (StudyState.QUEUED, StudyState.RUNNING):
        for outage in (None, "No Ray."):
            text = describe_status(study.model_copy(update={"state": state}), outage=outage)
            assert text.startswith("2 trials in training")
            assert "dispatcher" not in text


@pytest.mark.parametrize(
    ("counts", "text"),
    [({"running": 1}, "1 trial in training"), ({"running": 2}, "2 trials in training")],
)
def test_a_number_has_its_noun_in_the_right_form(known: Store, counts: dict[str, int], text: str) -> None:
    study = Trained(known).study
    progress = study.progress.model_copy(update=counts)
    study = study.model_copy(update={"state": StudyState.RUNNING, "progress": progress})
    assert describe_status(study).startswith(f"{text}, ")


def test_a_closed_study_says_how_it_ended(known: Store) -> None:
    study, _ = played(known)
    assert describe_status(study).startswith("6 trials finished")
    half = Trained(known).train(3)
    known.move(half.id, StudyMove.STOP)
    half.close()
    assert "4 of 6 trials" in describe_status(known.study(half.id))
    lost = Trained(known).train(3).close(StudyMove.FAIL, reason="the disk is full")
    assert "The disk is full. 2 of 6 trials had completed." in describe_status(known.study(lost.id))


def test_the_status_counts_confirmation_runs(known: Store) -> None:
    run = Trained(known, confirmation={"seeds": 2}, width=1).train()
    assert "0 of 8 confirmation runs" in describe_status(known.study(run.id))
    run.confirm().close()
    assert "6 trials and 8 confirmation runs" in describe_status(known.study(run.id))


@pytest.mark.parametrize("state", list(StudyState))
def test_every_state_has_a_status_before_any_trial_ran(known: Store, state: StudyState) -> None:
    run = Trained(known)
    study = known.study(run.id).model_copy(update={"state": state})
    assert describe_status(study).endswith(".")


def test_64_arms_all_look_different() -> None:
    styles = [arm_style(number) for number in range(64)]
    assert len({(style.colour, style.dash, style.marker) for style in styles}) == 64
    assert len({(style.colour, style.marker) for style in styles[:8]}) == 8
    arms_of_one_optimizer = [arm_style(number) for number in style_numbers(["adamw"] * 48)]
    assert len({(style.dash, style.marker) for style in arms_of_one_optimizer}) == 48
    assert {style.number for style in arms_of_one_optimizer} == {1}


def test_an_optimizer_has_its_colour_on_every_page() -> None:
    assert style_numbers(["sgdp", "adamw"]) == (2, 1)
    assert style_numbers(["adamw", "sgdp", "adamw"]) == (1, 2, 9)
    # An optimizer without a colour of its own gives way to one that has it, and no two look the same.
    wanted = {name: style_numbers([name])[0] for name in map("optimizer{}".format, range(9))}
    rival = next(name for name, number in wanted.items() if number == 0)
    found = style_numbers([rival, "adamp", *(name for name in wanted if name != rival)])
    assert found[1] == 0
    assert len(set(found)) == len(found) == 10


def test_every_field_that_the_form_offers_is_one_of_a_study() -> None:
    offered = [json.loads(field.member) for field in FIELDS]
    base = {"budget": {"trials_per_arm": 20, "epochs": 2}, "confirmation": {"seeds": 5}}
    for member in offered:
        parse_spec(study_body(**base | member))
    training = {name for member in offered for name in member.get("training", {})}
    assert {"ema_decay", "ema_evaluation"} <= training
