"""Workers and runs are forked by processes that have imported what they need; nothing depends on these."""

import os
import shutil
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process, until
from processes import is_alive

from studies.states import StudyState

__all__: list[str] = []

PLUGIN = Path(__file__).parents[1] / "plugin"

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DispatcherProcess]:
    """A dispatcher whose fork server and packages these tests may change."""
    home = tmp_path_factory.mktemp("dispatcher")
    shutil.copytree(PLUGIN, home / "packages")
    with dispatcher_process(home, packages=home / "packages") as running:
        yield running


def server(dispatcher: DispatcherProcess) -> psutil.Process:
    """Return the fork server."""
    (guardian,) = dispatcher.processes("workers.guardian")

    def found() -> psutil.Process | None:
        children = [psutil.Process(pid) for pid in dispatcher.processes("workers.fork_server")]
        return next((child for child in children if child.ppid() == guardian), None)

    return until(found, what="a fork server")


def results(dispatcher: DispatcherProcess, study_id: str) -> list[tuple[int, float | None, float | None]]:
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    trials = dispatcher.store.every_trial(study_id)
    return sorted((trial.number, trial.value, trial.test_value) for trial in trials)


def test_forked_workers_train_what_others_train(alone: DispatcherProcess) -> None:
    forking = server(alone)
    socket = Path(forking.cmdline()[-2], "forks", "socket")
    assert (socket.stat().st_mode & 0o777, socket.parent.stat().st_mode & 0o777) == (0o600, 0o700)
    found: list[list[tuple[int, float | None, float | None]]] = []
    for is_forked in (True, False):
        if not is_forked:
            socket.rename(socket.with_name("away"))
        study_id = alone.submit("slow-plane", epochs=8, seed=5, resources={"max_pack_size": 1})
        workers = until(lambda: alone.processes("ray::ResourceTrainable"), what="a worker")
        parents = {psutil.Process(worker).ppid() for worker in workers}
        assert (forking.pid in parents) == is_forked
        found.append(results(alone, study_id))
    socket.with_name("away").rename(socket)
    assert found[0] == found[1]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGHUP], ids=["killed", "replaced"])
def test_workers_outlive_a_fork_server_that_is_killed_or_replaced(
    alone: DispatcherProcess, number: signal.Signals
) -> None:
    forking = server(alone)
    study_id = alone.submit("slow-plane", epochs=30, resources={"max_pack_size": 1})
    workers = until(lambda: alone.processes("ray::ResourceTrainable"), what="a worker")
    (guardian,) = alone.processes("workers.guardian")
    os.kill(guardian if number == signal.SIGHUP else forking.pid, number)
    until(lambda: not forking.is_running(), what="the fork server to end")
    assert server(alone).pid != forking.pid
    assert all(map(is_alive, workers))
    assert alone.closed(study_id).state is StudyState.COMPLETED
    assert {trial.attempt for trial in alone.store.every_trial(study_id)} == {1}
    again = alone.submit("slow-plane", epochs=20)
    until(lambda: alone.processes("ray::ResourceTrainable"), what="a worker")
    assert server(alone).children()
    alone.closed(again)


def test_a_changed_package_reaches_the_next_study(alone: DispatcherProcess) -> None:
    before = results(alone, alone.submit("slow-plane", epochs=2, trials=2))
    module = alone.home / "packages" / "tangent_plugin.py"
    code = module.read_text()
    changed = code.replace(
        "(outputs - targets).square().sum()", "0 * (outputs - targets).square().sum() + 16"
    )
    assert changed != code
    module.write_text(changed)
    after = results(alone, alone.submit("slow-plane", epochs=2, trials=2))
    assert {value for _, value, _ in after} == {1.0}
    assert {value for _, value, _ in before} != {1.0}


def test_studies_run_although_the_server_of_runs_is_killed(alone: DispatcherProcess) -> None:
    def servers() -> list[int]:
        runs = alone.processes("workers.run")
        return [pid for pid in runs if str(Path(f"/proc/{pid}/fd/0").readlink()).startswith("socket:")]

    (killed,) = until(servers, what="a server of runs")
    first = alone.submit("slow-plane", epochs=4)
    until(lambda: alone.store.study(first).state is StudyState.RUNNING, what="a run")
    os.kill(killed, signal.SIGKILL)
    second = alone.submit("slow-plane", epochs=2)
    assert [alone.closed(each).state for each in (first, second)] == [StudyState.COMPLETED] * 2
    assert {trial.attempt for trial in alone.store.every_trial(first)} == {1}
