"""Faults during a study, one at a time, on a cluster of hosts: every guarantee holds each time.

`TANGENT_REPETITIONS=20 TANGENT_LEDGER=rows.jsonl python -m pytest -m cluster tests/cluster` repeats each
fault and stores the results.
"""

import os
import time
from pathlib import Path
from typing import Any

import pytest
from cluster.faults import FAULTS, Fault
from cluster.lab import Lab
from cluster.ledger import Row, append
from cluster.story import Story

from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.cluster, pytest.mark.ray, pytest.mark.postgres]

_REPETITIONS = int(os.environ.get("TANGENT_REPETITIONS", "1"))
_LEDGER = os.environ.get("TANGENT_LEDGER")
_IN_TURN = os.environ.get("TANGENT_FAULTS", "").split(",") if os.environ.get("TANGENT_FAULTS") else []
_STRIKE_UNTIL = time.monotonic() + float(os.environ.get("TANGENT_SECONDS", "inf"))
_MOST_IN_ONE_STUDY = 5
_UNAVAILABLE_WITHIN_S = 8.0
_GOES_ON_WITHIN_S = 120.0


def study(name: str, *, trials: int, retries: int) -> dict[str, Any]:
    """Return a study with rungs at 2, 4 and 8 of 12 epochs."""
    return {
        "name": name,
        "workload": "slow-plane",
        "arms": ["adamp", "sgd"],
        "budget": {"trials_per_arm": trials, "epochs": 12},
        "sampler": "random",
        "pruner": {"kind": "asha", "min_epochs": 2, "reduction_factor": 2},
        "resources": {"max_pack_size": 3},
        "confirmation": {"seeds": 0},
        "max_retries": retries,
    }


def repeat(cluster: Lab, story: Story, name: str, fault: Fault) -> Row | None:
    """Inject a fault once and measure its effect; None if the study ended first."""
    cluster.healed()
    node = cluster.until(
        lambda: story.victim() or (story.is_closed and "none"),
        what="a trial beyond its checkpoint",
        timeout_s=120.0,
    )
    if node == "none":
        return None
    story.see()
    row, began = Row(name), time.time()
    fault.strike(cluster, story, node)
    if fault.requeues and not story.was_hit(began):
        # Its last trial in flight reached its rung just before the fault, so the fault had no effect.
        return repeat(cluster, story, name, fault)
    if fault.requeues:
        cluster.until(lambda: story.again(began), what=f"{name} to be noticed")
    if fault.hits_service:
        cluster.until(lambda: _back(story, began), what="the service to answer again")
        # A run that could not reach the database for the length of its lease may have lost the study. Wait
        # here, so that the cost counts for this fault and not for the next one.
        cluster.until(
            lambda: story.is_held or story.is_closed,
            what="a run to hold the lease",
            timeout_s=_GOES_ON_WITHIN_S,
        )
    # Trials that one fault hits are requeued at nearly the same time.
    again = story.again(began)
    if again:
        row.resumed_s = (
            cluster.until(
                lambda: story.trained_again(again), what="a trial to resume", timeout_s=_GOES_ON_WITHIN_S
            )
            - began
        )
        row.noticed_s = again[0].at - began
    cluster.healed()
    if fault.hits_service:
        unwell = [answer for answer in story.probe.since(began) if answer.status != 200]
        if unwell:
            row.noticed_s = unwell[0].asked_at + unwell[0].took_s - began
            row.resumed_s = max(row.resumed_s or 0.0, unwell[-1].asked_at + unwell[-1].took_s - began)
    answers = story.probe.since(began)
    row.slowest_s = max((answer.took_s for answer in answers), default=None)
    again = story.again(began)
    row.requeued, row.retries = len(again), sum(trial.is_charged for trial in again)
    row.lost_epochs = sum(trial.epochs_before - trial.epochs_after for trial in again)
    row.kept_epochs = sum(trial.epochs_after for trial in again)
    row.broken += _broken(row, fault, {answer.status for answer in answers})
    if not fault.is_charged and row.retries:
        why = story.reasons([trial for trial in again if trial.is_charged])
        row.broken.append(f"{row.retries} retries were charged for a graceful stop: {'; '.join(sorted(why))}")
    return row


def _back(story: Story, began: float) -> bool:
    answers = story.probe.since(began)
    return len(answers) >= 3 and all(answer.status == 200 for answer in answers[-2:])


def _broken(row: Row, fault: Fault, statuses: set[int]) -> list[str]:
    found: list[str] = []
    if fault.within_s is not None and (row.noticed_s is None or row.noticed_s > fault.within_s):
        found.append(f"noticed after {row.noticed_s} s, promised within {fault.within_s:g} s")
    if not statuses <= ({0, 200, 503} if fault.hits_service else {200}):
        found.append(f"the service answered {sorted(statuses)}")
    if row.slowest_s is not None and row.slowest_s > _UNAVAILABLE_WITHIN_S:
        found.append(f"an answer took {row.slowest_s:.1f} s, promised within {_UNAVAILABLE_WITHIN_S:g} s")
    if fault.requeues is False and row.requeued:
        found.append(f"{row.requeued} trials were lost, by a fault that touches none")
    if not fault.is_charged and row.lost_epochs:
        found.append(f"a graceful stop lost {row.lost_epochs} finished epochs")
    return found


def outlives(cluster: Lab, names: list[str], *, trials: int, retries: int = 3) -> list[Row]:
    """Inject faults into one study, one after another, while it runs; return their results."""
    story, rows = Story(cluster, study(", ".join(names)[:200], trials=trials, retries=retries)), list[Row]()
    try:
        for name in names:
            row = repeat(cluster, story, name, FAULTS[name]) if time.monotonic() < _STRIKE_UNTIL else None
            if row is None:
                break
            rows.append(row)
        if time.monotonic() > _STRIKE_UNTIL:
            story.stop()
        end = story.finish()
        left = story.faults() + (
            [] if end.state is StudyState.COMPLETED else [f"the study is {end.state}: {end.state_reason}"]
        )
    except AssertionError as error:
        left = [str(error)]
        story.give_up()
        # Whether the study would have survived the earlier faults is unknown.
        rows = [Row(names[min(len(rows), len(names) - 1)])]
    for row in rows:
        row.outcome = "broken" if left else "completed"
        row.broken += left
    if _LEDGER:
        append(Path(_LEDGER), rows)
    return rows


@pytest.mark.timeout(420, func_only=True)
@pytest.mark.parametrize("name", FAULTS)
def test_a_study_survives_a_fault(cluster: Lab, name: str) -> None:
    (row,) = outlives(cluster, [name], trials=4 + FAULTS[name].trials)
    assert not row.broken


@pytest.mark.timeout(7200, func_only=True)
@pytest.mark.skipif(
    _REPETITIONS == 1 and not _IN_TURN, reason="repeats the test above; set TANGENT_REPETITIONS"
)
def test_studies_survive_all_faults_in_turn(cluster: Lab) -> None:
    waiting, rows = (_IN_TURN or list(FAULTS)) * max(1, _REPETITIONS - 1), list[Row]()
    while waiting and time.monotonic() < _STRIKE_UNTIL:
        mine = waiting[:_MOST_IN_ONE_STUDY]
        done = outlives(
            cluster, mine, trials=4 + sum(FAULTS[name].trials for name in mine), retries=3 + 2 * len(mine)
        )
        waiting = waiting[max(1, len(done)) :]
        rows += done
    assert not [said for row in rows for said in row.broken], [row.broken for row in rows]
