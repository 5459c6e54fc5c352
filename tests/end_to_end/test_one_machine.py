"""Kills of each kind of process below `tangent up`, alone and in pairs: every guarantee holds each time.

With `TANGENT_REPETITIONS=20 TANGENT_LEDGER=rows.jsonl` each kill is repeated and its results are stored.
`TANGENT_KILLS=raylet,gcs+run -k in_turn` kills these in one study, for at most `TANGENT_SECONDS`.
"""

import itertools
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from cluster.ledger import Row, append
from dispatcher_process import until
from one_machine import KINDS, machine, repeat, repeat_in_turn, run_study

from service.client import Client
from studies.states import StudyState

__all__: list[str] = []

_REPETITIONS = int(os.environ.get("TANGENT_REPETITIONS", "1"))
_LEDGER = os.environ.get("TANGENT_LEDGER")
_KILLS = os.environ.get("TANGENT_KILLS", ",".join(KINDS)).split(",")
_SECONDS = float(os.environ.get("TANGENT_SECONDS", "inf"))
_TESTS = Path(__file__).parents[1]
_ALONE = [(kind,) for kind in KINDS]
_PAIRS = list(itertools.combinations(KINDS, 2))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kinds", [*_ALONE, *_PAIRS], ids="+".join)
def test_a_study_survives_the_kill_of_any_processes(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with machine(tmp_path) as running:
        for _ in range(_REPETITIONS):
            row = repeat(running, kinds)
            if _LEDGER:
                append(Path(_LEDGER), [row])
            assert row.broken == [], (tmp_path / "logs" / "dispatcher.log").read_text()[-4000:]
            assert not any(KINDS[kind].trains for kind in kinds) or row.requeued


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_study_survives_kills_in_turn(tmp_path: Path) -> None:
    with machine(tmp_path) as running:
        rows = repeat_in_turn(running, _KILLS, seconds=_SECONDS)
        if _LEDGER:
            append(Path(_LEDGER), rows)
        assert not [said for row in rows for said in row.broken], [(row.fault, row.broken) for row in rows]


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_study_survives_a_clock_that_is_set_forward_and_back(tmp_path: Path) -> None:
    hours = tmp_path / "hours"
    hours.write_text("0")
    folders = os.pathsep.join(str(_TESTS / folder) for folder in ("..", "plugin", "shifted_clock"))
    with machine(tmp_path, PYTHONPATH=folders, CLOCK_OFFSET_FILE=str(hours)) as running:
        for _ in range(_REPETITIONS):
            for name, offset in (("clock-forward", 1), ("clock-back", 0)):
                row = run_study(running, name, lambda offset=offset: set_clock(hours, offset))
                if _LEDGER:
                    append(Path(_LEDGER), [row])
                assert (row.broken, row.requeued) == ([], 0)


def set_clock(file: Path, hours: int) -> None:
    """Set the clock of all processes that read their offset from a file."""
    new = file.with_suffix(".new")
    new.write_text(str(hours))
    new.replace(file)


@pytest.fixture
def small_memory() -> Iterator[Path]:
    """A memory cgroup (version 1) of 4 GiB; needs root."""
    mine = next(
        line.split(":")[2]
        for line in Path("/proc/self/cgroup").read_text().splitlines()
        if line.split(":")[1] == "memory"
    )
    group = Path(f"/sys/fs/cgroup/memory{mine}/small-{os.getpid()}")
    group.mkdir()
    (group / "memory.limit_in_bytes").write_text(str(4 * 2**30))
    yield group
    until(lambda: not (group / "cgroup.procs").read_text(), what="its processes to end")
    group.rmdir()


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_the_kernel_kills_only_the_trial_that_needs_too_much_memory(
    tmp_path: Path, small_memory: Path
) -> None:
    # The first lr makes the trial take all memory; see tests/plugin.
    space = {"lr": {"choices": [1e6, 0.01, 0.02]}, "momentum": 0.0, "weight_decay": 0.0}
    body = {
        "workload": "greedy-high-lr",
        "arms": [{"optimizer": "sgd", "space": space}],
        "budget": {"trials_per_arm": 4},
        "sampler": "grid",
        "resources": {"max_concurrent_packs": 1},
        "confirmation": {"seeds": 0},
        "max_retries": 1,
    }
    within = ["sh", "-c", f'echo $$ > {small_memory}/cgroup.procs; exec "$@"', "up"]
    # Otherwise Ray's own monitor, which reads the group's limit, acts first.
    with machine(tmp_path, within=within, RAY_memory_monitor_refresh_ms="0") as running:
        until(running.is_ready, what="a service that is ready")
        for _ in range(_REPETITIONS):
            with Client(running.url) as client:
                study = client.submit(body)
                for _event in client.watch(study.id):
                    pass
                trials = list(client.every_trial(study.id))
                assert client.study(study.id).state is StudyState.COMPLETED
            reasons = {trial.parameters["lr"]: trial.reason for trial in trials if trial.state == "failed"}
            assert list(reasons) == [1e6]
            assert "memory ran out" in str(reasons[1e6])
            if _LEDGER:
                retries = sum(trial.retries for trial in trials)
                append(Path(_LEDGER), [Row("memory", "completed", requeued=retries, retries=retries)])
            assert running.is_ready()
    assert "oom_kill 0" not in (small_memory / "memory.oom_control").read_text()
