"""What a trial starts ends with it, daemons and ranks of torchrun included."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, until
from ports import free_port
from processes import below, is_alive, with_argument

from studies.spec import parse_spec
from studies.states import StudyMove, StudyState
from studies.store import Store

__all__: list[str] = []

ROOT = Path(__file__).parents[2]

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def test_a_daemon_ends_with_the_trial_that_started_it_although_its_worker_goes_on(
    dispatcher: DispatcherProcess,
) -> None:
    one_at_a_time = {"max_pack_size": 1, "max_concurrent_packs": 1}
    study_id = dispatcher.submit("daemon", trials=2, epochs=3, resources=one_at_a_time)
    (worker,) = until(lambda: dispatcher.processes("ray::ResourceTrainable"), what="a worker")
    until(lambda: with_argument(f"started-by-{worker}"), what="the daemon to start")
    until(lambda: dispatcher.store.study(study_id).progress.finished == 1, what="the first trial to end")
    until(lambda: not with_argument(f"started-by-{worker}"), what="the daemon to end", timeout_s=5.0)
    assert is_alive(worker)
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    assert {trial.worker for trial in dispatcher.store.every_trial(study_id)} == {
        f"{os.uname().nodename}:{worker}"
    }


class _Up:
    """`tangent up`, a trial that has started a daemon, and a trial that has started torchrun."""

    def __init__(self, home: Path) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "service", "up", "--home", str(home), "--port", str(free_port())],
            stdout=subprocess.PIPE,
            text=True,
            env={
                **{name: value for name, value in os.environ.items() if not name.startswith("TANGENT_")},
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "tests" / "plugin")]),
                "TANGENT_CPUS": "2",
            },
        )
        assert self.process.stdout is not None
        assert self.process.stdout.readline().startswith("Dashboard: ")
        self.store = Store.open(f"sqlite:///{home}/tangent.db")
        self.studies = [
            self.store.submit(
                parse_spec(
                    {
                        "workload": workload,
                        "arms": ["adamp"],
                        "budget": {"trials_per_arm": 1, "epochs": epochs},
                        "sampler": "random",
                        "confirmation": {"seeds": 0},
                        "max_retries": 0,
                    }
                )
            ).id
            for workload, epochs in (("daemon", 600), ("torchrun", 600))
        ]
        workers = until(
            lambda: len(pids := self.below("ray::ResourceTrainable")) == 2 and pids, what="two workers"
        )
        # The daemon; torchrun and its two ranks.
        until(lambda: len(self.started(workers)) == 4, what="the processes to start")
        self.workers = workers

    def below(self, command: str) -> list[int]:
        """Return the processes below it with this in their command line."""
        return below(self.process.pid, command=command)

    def started(self, workers: list[int]) -> list[int]:
        """Return the living processes that these workers have started."""
        return [pid for worker in workers for pid in with_argument(f"started-by-{worker}")]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[_Up]:
    running = _Up(tmp_path)
    yield running
    running.process.terminate()
    running.process.communicate(timeout=60)
    running.store.close()


def _cancel(up: _Up) -> None:
    for study_id in up.studies:
        up.store.move(study_id, StudyMove.CANCEL)


def _kill(command: str) -> Callable[[_Up], None]:
    def kill(up: _Up) -> None:
        for pid in up.below(command):
            os.kill(pid, signal.SIGKILL)

    return kill


def _send(number: signal.Signals) -> Callable[[_Up], None]:
    return lambda up: up.process.send_signal(number)


@pytest.mark.slow
@pytest.mark.parametrize(
    "end",
    [
        pytest.param(_cancel, id="the studies are cancelled"),
        pytest.param(_kill("ray::ResourceTrainable"), id="kill -9 of the workers"),
        pytest.param(_kill("workers.run"), id="kill -9 of the runs"),
        pytest.param(_kill("raylet/raylet"), id="kill -9 of the raylet"),
        pytest.param(_kill("workers.guardian"), id="kill -9 of the guardian"),
        pytest.param(_kill("-m workers"), id="kill -9 of the dispatcher, the runs and the guardian"),
        pytest.param(_send(signal.SIGKILL), id="kill -9 of tangent up"),
        pytest.param(_send(signal.SIGTERM), id="SIGTERM of tangent up"),
        pytest.param(_send(signal.SIGINT), id="Ctrl-C of tangent up"),
    ],
)
def test_daemons_and_ranks_of_torchrun_end_with_their_trial(up: _Up, end: Callable[[_Up], None]) -> None:
    end(up)
    until(lambda: not up.started(up.workers), what="the processes to end", timeout_s=30.0)
