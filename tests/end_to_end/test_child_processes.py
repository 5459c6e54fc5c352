"""What processes of a dispatcher inherit: neither the folder in which it was started nor its secrets."""

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


def test_only_the_owner_may_use_the_files_of_a_dispatcher_whatever_its_umask(
    dispatcher: DispatcherProcess,
) -> None:
    study_id = dispatcher.submit("slow-plane", trials=1)
    until(lambda: any((dispatcher.home / "checkpoints").rglob("*.pt")), what="a checkpoint")
    dispatcher.closed(study_id)
    files = [dispatcher.home, *dispatcher.home.glob("tangent.db*"), *(dispatcher.home / "logs").rglob("*")]
    files += [dispatcher.home / "logs", *(dispatcher.home / "checkpoints").rglob("*")]
    names = {file.name for file in files}
    assert f"run-{study_id}.log" in names
    assert "tangent.db" in names or not dispatcher.url.startswith("sqlite")
    assert {file: oct(file.stat().st_mode) for file in files if file.stat().st_mode & 0o077} == {}
