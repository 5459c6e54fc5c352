"""Hundreds of queued studies run to the end, in the order of the queue, and leave nothing behind."""

import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import psutil
import pytest
from dispatcher_process import DispatcherProcess, until

from studies.states import CLOSED_STUDY_STATES, StudyState
from studies.study_filter import StudyFilter

__all__: list[str] = []

STUDIES = int(os.environ.get("TANGENT_QUEUED_STUDIES", "300"))
# A busy machine with two cores starts the process of a run in that time.
PER_STUDY_S = 20.0
MAX_GROWTH_MB = 50.0


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600 + STUDIES * PER_STUDY_S)
def test_every_queued_study_runs_to_the_end(
    own: Callable[[], AbstractContextManager[DispatcherProcess]],
) -> None:
    with own() as dispatcher:
        ids = [dispatcher.submit("plane", trials=2, epochs=1, seed=n) for n in range(STUDIES)]
        process = psutil.Process(dispatcher.pid)

        def closed() -> int:
            return sum(
                dispatcher.store.studies(StudyFilter(state=state), page_size=1).total
                for state in CLOSED_STUDY_STATES
            )

        until(lambda: closed() >= 5, what="the first studies", timeout_s=60 + 5 * PER_STUDY_S)
        megabytes = process.memory_info().rss / 2**20
        until(lambda: closed() == STUDIES, what="every study", timeout_s=STUDIES * PER_STUDY_S)
        studies = [dispatcher.store.study(study_id) for study_id in ids]
        assert {study.state for study in studies} == {StudyState.COMPLETED}
        assert {study.progress.completed for study in studies} == {2}
        # Two run at a time.
        starts = [study.started_at for study in studies]
        assert None not in starts
        late = sorted(range(STUDIES), key=lambda n: (starts[n], n))
        assert max(abs(place - n) for place, n in enumerate(late)) <= 1
        assert all(
            len(dispatcher.copies(study_id, "adamp")) == 2 for study_id in ids[:: max(1, STUDIES // 10)]
        )
        assert process.memory_info().rss / 2**20 - megabytes < MAX_GROWTH_MB
        # The process that forks runs, the spare one for the next study, and no run of a closed one.
        until(lambda: len(dispatcher.processes("workers.run")) <= 2, what="the end of every run")
        assert not [path for path in Path(dispatcher.home, "checkpoints").rglob("*") if path.is_file()]
