"""What processes of a dispatcher inherit: neither the folder in which it was started nor its secrets."""

import contextlib
from collections.abc import Iterable
from pathlib import Path

import pytest
from dispatcher_process import SECRETS, DispatcherProcess, until

from studies.states import StudyState

__all__: list[str] = []

pytestmark = [pytest.mark.ray, pytest.mark.timeout(240)]


def _environment(pid: int) -> dict[str, str]:
    entries = Path(f"/proc/{pid}/environ").read_text().split("\0")
    return dict(entry.split("=", 1) for entry in entries if "=" in entry)


def test_no_process_imports_from_the_start_folder_and_rays_processes_get_no_secret(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit("slow-plane", trials=2)
    worker = until(lambda: dispatcher.processes("ray::ResourceTrainable"), what="a worker that trains")[0]
    found = {pid: _environment(pid) for pid in [*dispatcher.processes("site-packages/ray/"), worker]}
    assert len(found) > 2
    secret_names, secrets = {*SECRETS, "TANGENT_DATABASE_URL"}, {*SECRETS.values(), dispatcher.url}
    leaks = {
        pid: (name, Path(f"/proc/{pid}/cmdline").read_text()[:200])
        for pid, environment in found.items()
        for name, value in environment.items()
        if name in secret_names or value in secrets
    }
    assert leaks == {}
    assert {environment.get("HF_TOKEN") for environment in found.values()} == {"for-trials"}
    assert "TANGENT_TOKEN" not in _environment(dispatcher.processes("workers.run")[0])
    assert dispatcher.closed(study_id).state is StudyState.COMPLETED
    assert list(dispatcher.start_folder.glob("*.executed")) == []


def _modes(files: Iterable[Path]) -> dict[str, int]:
    """Return the modes of files; a checkpoint may be deleted meanwhile."""
    modes: dict[str, int] = {}
    for file in files:
        with contextlib.suppress(FileNotFoundError):
            modes[file.name] = file.stat().st_mode & 0o777
    return modes


def test_only_the_owner_may_use_the_files_of_a_dispatcher_whatever_its_umask(
    dispatcher: DispatcherProcess,
) -> None:
    checkpoints, logs = dispatcher.home / "checkpoints", dispatcher.home / "logs"
    study_id = dispatcher.submit("slow-plane", trials=1)
    saved = until(
        lambda: {name: mode for name, mode in _modes(checkpoints.rglob("*")).items() if ".pt" in name},
        what="a checkpoint",
    )
    assert set(saved.values()) == {0o600}
    dispatcher.closed(study_id)
    files = _modes([*dispatcher.home.glob("tangent.db*"), *logs.iterdir()])
    assert f"run-{study_id}.log" in files
    assert "tangent.db" in files or not dispatcher.url.startswith("sqlite")
    assert set(files.values()) == {0o600}
    assert set(_modes([dispatcher.home, checkpoints, logs]).values()) == {0o700}
