"""A study's run is killed at each of its commits in turn, and the next run loses and duplicates nothing.

Real dispatcher, Ray and database.
"""

import random

import pytest
from dispatcher_process import DispatcherProcess
from invariants import ClientView, broken

from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(900)]

PRUNER = {"kind": "asha", "min_epochs": 1, "reduction_factor": 2}
# More than the commits of any run of this study, including lease renewals and progress events.
MOST = 400


def killed_at(dispatcher: DispatcherProcess, moment: str, number: int) -> bool:
    """Run a study whose first run is killed at a commit; return whether it reached that commit."""
    killed = dispatcher.home / "killed"
    killed.unlink(missing_ok=True)
    (dispatcher.home / "kill_at").write_text(f"{moment} {number}")
    client = ClientView()
    study_id = dispatcher.submit(
        "plane",
        arms=["adamp", "sgd"],
        trials=2,
        pruner=PRUNER,
        confirmation={"seeds": 1},
        resources={"max_pack_size": 2},
    )
    client.accepted(dispatcher.store.study(study_id))
    study = dispatcher.closed(study_id)
    client.saw(dispatcher.store.every_trial(study_id, phase=None))
    assert study.state is StudyState.COMPLETED, (moment, number, study.state_reason)
    assert (study.progress.finished, study.progress.trials, study.progress.failed) == (4, 4, 0), (
        moment,
        number,
    )
    assert study.progress.completed >= 2
    assert broken(dispatcher.store, client) == [], (moment, number)
    return killed.exists()


@pytest.mark.slow
def test_a_study_survives_the_death_of_its_run_at_a_commit(dispatcher: DispatcherProcess) -> None:
    assert killed_at(dispatcher, "after", random.Random(6).randint(4, 9))


@pytest.mark.slow
@pytest.mark.parametrize("part", range(8))
def test_a_study_survives_the_death_of_its_run_at_any_commit(
    dispatcher: DispatcherProcess, part: int
) -> None:
    """Each part kills at every fourth commit: the first four parts before it, the others after it."""
    moment, first = ("before", "after")[part // 4], part % 4 + 1
    tried = 0
    for number in range(first, MOST, 4):
        if not killed_at(dispatcher, moment, number):
            break
        tried += 1
    with (dispatcher.home / "commit_points").open("a") as file:
        file.write(f"{moment} {first}+4n: {tried} kills\n")
    assert tried > 3
