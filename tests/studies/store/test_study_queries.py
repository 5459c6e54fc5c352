"""Reading studies and trials: pages, orders, progress, best values and curves."""

import base64
import itertools
from typing import Any

import pytest
from catalogs import study_body
from simulated_dispatch import SimulatedDispatcher, SimulatedRun, report

from studies.errors import ArmNotFound, SpecInvalid, TrialNotFound
from studies.spec import parse_spec
from studies.states import StudyMove, StudyState, TrialState
from studies.store import Store
from studies.study_filter import StudyFilter
from studies.views import Curve, TrialView

__all__: list[str] = []


def every_page(store: Store, study_id: str, *, page_size: int, **asked: Any) -> list[TrialView]:
    """Return all trials, page by page, and check each page's total."""
    found: list[TrialView] = []
    token: str | None = None
    while True:
        page = store.trials(study_id, page_size=page_size, page_token=token, **asked)
        found += page.items
        if page.next_page_token is None:
            assert page.total == len(found)
            return found
        assert len(page.items) == page_size
        assert page.total > len(found)
        token = page.next_page_token


@pytest.fixture
def played(play: SimulatedDispatcher) -> SimulatedRun:
    """A study: adamp has twelve trials with ties in value, one diverged and one running.

    adamw has one completed.
    """
    run = play.run(budget={"trials_per_arm": 12, "epochs": 2})
    trials = run.begin(*range(12))
    for trial, value in zip(trials, (0.5, 0.9, 0.7, 0.7, 0.7, 0.2, 0.9, 0.1, 0.7, 0.3), strict=False):
        run.complete(trial, value, cost_s=1.0 + trial.number % 3)
    run.diverge(trials[10])
    run.writer.record([report(trials[11], 1)])
    run.complete(run.begin(0, arm="adamw")[0], 0.6)
    return run


def numbers(trials: list[TrialView]) -> list[int]:
    return [trial.number for trial in trials]


@pytest.mark.parametrize("page_size", [1, 5, 13, 100])
def test_pages_hold_every_trial_once_in_every_order(played: SimulatedRun, page_size: int) -> None:
    study_id = played.claim.study_id
    ids = {trial.id for trial in played.writer.trials()}
    for key, sign in itertools.product(("created", "number", "value", "cost", "ended"), ("", "-")):
        found = every_page(played.store, study_id, page_size=page_size, order=sign + key)
        assert len(found) == 13
        assert {trial.id for trial in found} == ids
        assert found == every_page(played.store, study_id, page_size=13, order=sign + key), (
            "the order must not depend on the page size"
        )


def test_trials_are_returned_in_each_order(played: SimulatedRun) -> None:
    def ordered(order: str) -> list[int]:
        return numbers(every_page(played.store, played.claim.study_id, page_size=5, arm="adamp", order=order))

    assert ordered("created") == ordered("number") == list(range(12)), "number 10 comes after number 9"
    assert ordered("-number") == list(range(11, -1, -1))
    assert ordered("value") == [1, 6, 2, 3, 4, 8, 0, 9, 5, 7, 10, 11], (
        "best first, equal values by number, trials without a value last"
    )
    assert ordered("-value") == [7, 5, 9, 0, 2, 3, 4, 8, 1, 6, 10, 11], (
        "worst first, trials without a value still last"
    )
    assert ordered("cost")[:2] == [10, 11]
    assert ordered("-cost")[:3] == [2, 5, 8]
    assert ordered("ended") == list(range(12)), "running trials come last"
    assert ordered("-ended")[0] == 10


def test_the_best_value_is_the_lowest_where_the_metric_is_minimized(play: SimulatedDispatcher) -> None:
    run = play.run(workload="char-lm")
    trials = run.begin(0, 1, 2)
    for trial, value in zip(trials, (2.0, 1.0, 3.0), strict=True):
        run.complete(trial, value)
    study_id = run.claim.study_id
    assert numbers(every_page(play.store, study_id, page_size=2, order="value")) == [1, 0, 2]
    assert numbers(every_page(play.store, study_id, page_size=2, order="-value")) == [2, 0, 1]
    best = play.store.arms(study_id)[0].best
    assert best is not None
    assert best.value == 1.0
    assert [point.value for point in play.store.curves(study_id)[0].points] == [2.0, 1.0, 1.0]


def test_trials_can_be_filtered_by_arm_and_state(played: SimulatedRun) -> None:
    study_id = played.claim.study_id
    assert len(every_page(played.store, study_id, page_size=4, arm="adamw")) == 1
    assert numbers(every_page(played.store, study_id, page_size=4, state=TrialState.DIVERGED)) == [10]
    assert len(every_page(played.store, study_id, page_size=4, arm="adamp", state=TrialState.COMPLETED)) == 10
    assert every_page(played.store, study_id, page_size=4, state=TrialState.FAILED) == []
    with pytest.raises(ArmNotFound, match="has no arm 'sgd'; it has adamp, adamw"):
        played.store.trials(study_id, arm="sgd")


def test_an_unknown_order_is_refused(played: SimulatedRun) -> None:
    for order in ("", "-", "--value", "best", "value;", "VALUE"):
        with pytest.raises(SpecInvalid) as raised:
            played.store.trials(played.claim.study_id, order=order)
        (problem,) = raised.value.problems
        assert problem.pointer == "/order"
        assert "expected one of created, number, value, cost, ended" in problem.message


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


def test_an_invalid_page_token_or_one_of_another_query_is_refused(played: SimulatedRun) -> None:
    study_id = played.claim.study_id
    token = played.store.trials(study_id, page_size=2).next_page_token
    assert token is not None
    of_studies = [played.store.submit(parse_spec(study_body(seed=n))).id for n in range(2)]
    strange = [
        "",
        "x",
        "🐙",
        "\0",
        "a" * 10_000,
        encoded("2"),
        encoded("2.0.0"),
        encoded("-1.abc"),
        encoded("x.y"),
        token[:-2],
        token + token,
    ]
    asks = [
        lambda t: played.store.trials(study_id, page_token=t),
        lambda t: played.store.studies(page_token=t),
    ]
    foreign = [
        lambda: played.store.trials(study_id, arm="adamp", page_token=token),
        lambda: played.store.trials(study_id, state=TrialState.COMPLETED, page_token=token),
        lambda: played.store.trials(study_id, order="value", page_token=token),
        lambda: played.store.trials(of_studies[0], page_token=token),
        lambda: played.store.studies(page_token=token),
    ]
    for refused in [*foreign, *(lambda ask=ask, text=text: ask(text) for ask in asks for text in strange)]:
        with pytest.raises(SpecInvalid) as raised:
            refused()
        assert raised.value.problems[0].pointer == "/page_token"


def test_studies_come_newest_first_page_by_page(play: SimulatedDispatcher) -> None:
    ids = [play.submit() for _ in range(7)]
    first = play.store.studies(page_size=3)
    assert ([study.id for study in first.items], first.total) == (ids[:3:-1], 7)
    second = play.store.studies(page_size=3, page_token=first.next_page_token)
    third = play.store.studies(page_size=3, page_token=second.next_page_token)
    assert [study.id for page in (second, third) for study in page.items] == ids[3::-1]
    assert third.next_page_token is None
    assert play.store.studies(page_size=7).next_page_token is None, (
        "an exactly full last page has no next page"
    )


def test_studies_can_be_filtered_by_state_and_workload(play: SimulatedDispatcher) -> None:
    digits, text = play.submit(), play.submit(workload="char-lm")
    play.store.move(digits, StudyMove.PAUSE)
    assert [study.id for study in play.store.studies(StudyFilter(state=StudyState.PAUSED)).items] == [digits]
    assert [study.id for study in play.store.studies(StudyFilter(workload="char-lm")).items] == [text]
    assert play.store.studies(StudyFilter(state=StudyState.PAUSED, workload="char-lm")).items == ()
    for workload in ("nothing", "a\0b", "\ud800"):
        assert play.store.studies(StudyFilter(workload=workload)).total == 0


def test_a_summary_agrees_with_its_study(played: SimulatedRun) -> None:
    (summary,) = played.store.studies().items
    study = played.study.model_dump()
    assert summary.model_dump() == {name: study[name] for name in summary.model_dump()}


def test_progress_counts_every_state_and_epoch(played: SimulatedRun) -> None:
    progress = played.study.progress
    assert (progress.trials, progress.finished, progress.completed, progress.diverged) == (24, 12, 11, 1)
    assert (progress.running, progress.failed, progress.cancelled, progress.pruned) == (1, 0, 0, 0)
    assert (progress.epochs, progress.epochs_done) == (48, 24)
    adamp, adamw = played.store.arms(played.claim.study_id)
    assert (adamp.progress.finished, adamw.progress.finished) == (11, 1)
    assert {name: a + getattr(adamw.progress, name) for name, a in adamp.progress} == progress.model_dump()


def test_an_arm_shows_its_space_and_the_first_of_its_best_trials(played: SimulatedRun) -> None:
    adamp, adamw = played.store.arms(played.claim.study_id)
    assert [arm.position for arm in (adamp, adamw)] == [0, 1]
    assert adamp.space == played.writer.plan().arms[0].space
    assert adamp.best is not None
    assert (adamp.best.number, adamp.best.value, adamp.best.test_value, adamp.best.epoch) == (1, 0.9, 0.89, 2)
    assert adamp.best.trial_id == f"{played.claim.study_id}.adamp.1"
    assert adamp.best.call.startswith("AdamP(model.parameters(), lr=0.002")
    assert "from optimizers import AdamP\n" in adamp.best.python


def test_an_arm_without_a_completed_trial_has_no_best(play: SimulatedDispatcher) -> None:
    run = play.run()
    run.diverge(run.begin(0)[0])
    assert [arm.best for arm in play.store.arms(run.claim.study_id)] == [None, None]


def test_a_curve_counts_trials_and_seconds_and_never_gets_worse(played: SimulatedRun) -> None:
    adamp, adamw = played.store.curves(played.claim.study_id)
    assert [point.trials for point in adamp.points] == list(range(1, 12)), (
        "diverged trials count, running ones do not"
    )
    assert [point.value for point in adamp.points] == [0.5, *[0.9] * 10]
    seconds = [1, 3, 6, 7, 9, 12, 13, 15, 18, 19, 19.5]
    assert [point.elapsed_s for point in adamp.points] == seconds
    assert len(adamw.points) == 1


def test_a_curve_has_no_value_while_all_trials_have_diverged(play: SimulatedDispatcher) -> None:
    run = play.run()
    lost, found = run.begin(0, 1)
    run.diverge(lost)
    run.complete(found, 0.5)
    adamp, adamw = play.store.curves(run.claim.study_id)
    assert [point.value for point in adamp.points] == [None, 0.5]
    assert adamw == Curve(arm="adamw", points=())


def test_every_trial_is_returned_oldest_first(played: SimulatedRun) -> None:
    trials = played.store.every_trial(played.claim.study_id)
    assert [(trial.arm, trial.number) for trial in trials] == [
        *(("adamp", n) for n in range(12)),
        ("adamw", 0),
    ]
    assert trials == played.writer.trials()
    assert all(played.store.trial(trial.id) == trial for trial in trials)


def test_reading_a_missing_trial_raises(played: SimulatedRun) -> None:
    for trial_id in ("nothing", f"{played.claim.study_id}.adamp.99", "a\0b", "\ud800", "x" * 10_000):
        with pytest.raises(TrialNotFound):
            played.store.trial(trial_id)
        with pytest.raises(TrialNotFound):
            played.store.measurements(trial_id)


def test_the_first_trials_of_a_study_have_no_measurements_yet(play: SimulatedDispatcher) -> None:
    run = play.run()
    assert play.store.measurements(run.begin(0)[0].id) == ()
    assert play.store.trials(run.claim.study_id, state=TrialState.COMPLETED).items == ()


def test_a_reader_sees_one_state_of_the_database(played: SimulatedRun, database_url: str) -> None:
    other = Store.open(database_url, migrate=False)
    database = played.store._database
    with database.read() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM trial").scalar_one()
        SimulatedRun(other, played.claim, other.run_writer(played.claim, lease_s=60)).create(50)
        assert connection.exec_driver_sql("SELECT count(*) FROM trial").scalar_one() == before
    assert len(played.writer.trials()) == before + 1
    other.close()


def test_a_reopened_study_is_counted_again(play: SimulatedDispatcher) -> None:
    run = play.run(budget={"trials_per_arm": 2, "epochs": 2}, confirmation={"seeds": 0})
    for n in range(2):
        run.complete(run.begin(n)[0], 0.5)

    def listed() -> tuple[int, int]:
        (summary,) = play.store.studies().items
        return summary.progress.trials, summary.progress.completed

    assert listed() == (4, 2)
    run.writer.close(StudyMove.FINISH)
    assert [listed() for _ in range(2)] == [(4, 2)] * 2
    play.extend(run.claim.study_id, trials_per_arm=3)
    again = play.claim()
    again.complete(again.begin(2)[0], 0.7)
    assert listed() == (6, 3)
    again.writer.close(StudyMove.FINISH)
    assert [listed() for _ in range(2)] == [(6, 3)] * 2


def test_the_best_values_of_many_studies_are_those_of_their_completed_searches(
    played: SimulatedRun, play: SimulatedDispatcher
) -> None:
    empty = play.submit()
    played.complete(played.confirm(0, seeds=1, first=0)[0], 0.99)
    found = played.store.best_values([played.claim.study_id, empty, "nothing"])
    assert found[empty] == ()
    assert [(one.arm, one.optimizer, one.highest, one.lowest) for one in found[played.claim.study_id]] == [
        ("adamp", "adamp", 0.9, 0.1),
        ("adamw", "adamw", 0.6, 0.6),
    ]
    assert set(found) == {empty, played.claim.study_id}
