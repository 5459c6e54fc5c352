"""Studies of several owners on one Ray cluster: no study waits for another to end."""

from collections.abc import Sequence
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess, dispatcher_process, until

from studies.actors import Actor
from studies.spec import parse_spec
from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.timeout(240)]


def submit(
    dispatcher: DispatcherProcess,
    owner: str,
    trials: int,
    *,
    arms: Sequence[object] = ("sgd",),
    epochs: int = 10,
    **resources: float,
) -> str:
    """Submit a study of an owner, with every trial in a pack of its own."""
    budget = {"trials_per_arm": trials, "epochs": epochs}
    body = {
        "workload": "slow-plane",
        "arms": list(arms),
        "budget": budget,
        "sampler": "random",
        "confirmation": {"seeds": 0},
    }
    spec = parse_spec({**body, "resources": {"max_pack_size": 1, **resources}})
    return dispatcher.store.submit(spec, by=Actor(name=owner, role="submitter")).id


def finished(dispatcher: DispatcherProcess, study_id: str) -> int:
    return dispatcher.store.study(study_id).progress.finished


def ends_before(dispatcher: DispatcherProcess, small: str, large: str) -> None:
    """Wait until a small study has completed while a large one continues without losses."""
    assert dispatcher.closed(small).state is StudyState.COMPLETED
    assert dispatcher.store.study(large).state is StudyState.RUNNING
    assert all(trial.retries == 0 for trial in dispatcher.store.every_trial(large))
    before = finished(dispatcher, large)
    until(lambda: finished(dispatcher, large) > before, what="the large study to continue")
    dispatcher.stop()


def test_a_small_study_ends_while_a_large_one_continues(tmp_path: Path) -> None:
    with dispatcher_process(tmp_path) as dispatcher:
        large = submit(dispatcher, "ada", 200)
        until(lambda: finished(dispatcher, large) >= 2, what="the large study to start")
        small = submit(dispatcher, "bob", 3)
        ends_before(dispatcher, small, large)


def test_if_only_one_pack_fits_studies_alternate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_TURN_S", "12")
    with dispatcher_process(tmp_path) as dispatcher:
        large = submit(dispatcher, "ada", 200, cpus_per_pack=2)
        until(lambda: finished(dispatcher, large) >= 1, what="the large study to start")
        small = submit(dispatcher, "bob", 2, cpus_per_pack=2)
        ends_before(dispatcher, small, large)


def test_a_run_yields_to_an_owner_without_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TANGENT_TURN_S", "12")
    with dispatcher_process(tmp_path) as dispatcher:
        large = [submit(dispatcher, "ada", 200) for _ in range(2)]
        until(
            lambda: all(finished(dispatcher, study) >= 1 for study in large), what="both slots to be in use"
        )
        small = submit(dispatcher, "bob", 2)
        assert dispatcher.closed(small, timeout_s=120.0).state is StudyState.COMPLETED
        for study in large:
            assert dispatcher.store.study(study).state is StudyState.RUNNING
            assert all(trial.retries == 0 for trial in dispatcher.store.every_trial(study))
        dispatcher.stop()


def test_an_idle_worker_is_lent_while_other_packs_train_on(tmp_path: Path) -> None:
    with dispatcher_process(tmp_path) as dispatcher:
        arms = [
            {"optimizer": "sgd", "name": name, "space": {"training.batch_size": size}}
            for name, size in (("short", 64), ("long", 4))
        ]
        large = submit(dispatcher, "ada", 2, arms=arms, epochs=30)
        until(lambda: dispatcher.store.study(large).progress.running == 2, what="both arms to train")
        small = submit(dispatcher, "bob", 1)
        assert dispatcher.closed(small).state is StudyState.COMPLETED
        (lent,) = dispatcher.store.every_trial(small)
        long = next(trial for trial in dispatcher.store.every_trial(large) if trial.arm == "long")
        assert lent.started_at is not None
        assert long.ended_at is None or lent.started_at < long.ended_at
        dispatcher.stop()
