"""A study is run, exported and replayed from its bundle alone; the results agree.

Real dispatcher, Ray, training, service and command line.
"""

import json
import socket
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess
from typer.testing import CliRunner, Result

from service.app import create_app
from service.cli.app import app
from service.serve import Server
from service.settings import ServiceSettings
from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]

# Resources with which a study is exactly repeatable.
ONE_AT_A_TIME = {"max_concurrent_packs": 1, "max_pack_size": 1}


@pytest.fixture(scope="module")
def url(dispatcher: DispatcherProcess) -> Iterator[str]:
    """A service on the dispatcher's database."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = Server(create_app(ServiceSettings.load(home=dispatcher.home), dispatcher.store))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    deadline = time.monotonic() + 10
    while not server.started and time.monotonic() < deadline:
        time.sleep(0.01)
    yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    server.should_exit = True
    thread.join(10)
    listener.close()


def tangent(url: str, *arguments: str) -> Result:
    return CliRunner(env={"TANGENT_URL": url, "COLUMNS": "200"}).invoke(app, list(arguments))


def test_a_replay_of_a_study_without_shared_packs_is_exact(
    dispatcher: DispatcherProcess, url: str, tmp_path: Path
) -> None:
    study_id = dispatcher.submit(
        "plane",
        arms=["adamp", "adamw"],
        trials=4,
        epochs=2,
        sampler="tpe",
        search={"paired": 2},
        seed=3,
        confirmation={"seeds": 3},
        resources=ONE_AT_A_TIME,
    )
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    bundle = tmp_path / "plane.tangent.zip"
    exported = tangent(url, "export", study_id, "-o", str(bundle))
    assert exported.exit_code == 0, exported.output

    replayed = tangent(url, "replay", str(bundle), "--json")

    assert replayed.exit_code == 0, replayed.output
    replay = json.loads(replayed.stdout)
    assert replay["agreement"]["word"] == "identical"
    assert replay["agreement"]["is_search_equal"]
    trials = [dispatcher.store.every_trial(study, phase=None) for study in (study_id, replay["study"])]
    outcomes = [
        sorted((t.arm, t.phase, t.number, str(t.pair_index), t.seed, t.value, t.test_value) for t in of)
        for of in trials
    ]
    assert outcomes[0] == outcomes[1]
    assert [t.pair_index for t in trials[0] if t.phase == "search" and t.arm == "adamp"].count(None) == 2
    assert len(outcomes[0]) == 2 * (4 + 2 * 3)
    environment = dispatcher.store.study(study_id).environment
    shown = json.loads(tangent(url, "report", study_id, "--json").stdout)
    assert f"torch {environment['torch']}" in shown["methods"]["paragraphs"][-1], (
        "the report names the software"
    )
