"""Leftover checkpoints are deleted once their study is closed; no other files are."""

from pathlib import Path

from catalogs import catalog, study_body

from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from workers.checkpoint_gc import remove_closed_checkpoints, remove_logs_of_deleted, remove_unkept_files
from workers.settings import DispatcherSettings

__all__: list[str] = []


def test_only_checkpoints_of_closed_studies_are_deleted(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    store.announce(catalog(), dispatcher="here")
    is_open, closed = (store.submit(parse_spec(study_body())).id for _ in range(2))
    store.move(closed, StudyMove.CANCEL)
    folder = tmp_path / "checkpoints"
    for name in (is_open, closed, "of-another-database"):
        (folder / name).mkdir(parents=True)
        (folder / name / "some.pt").touch()
    assert remove_closed_checkpoints(store, str(folder)) == 1
    assert sorted(path.name for path in folder.iterdir()) == sorted([is_open, "of-another-database"])
    assert remove_closed_checkpoints(store, str(tmp_path / "no-such-folder")) == 0
    store.close()


def test_checkpoints_are_kept_in_home_unless_configured_otherwise(tmp_path: Path) -> None:
    assert DispatcherSettings(home=tmp_path).checkpoints_of("abc") == f"{tmp_path}/checkpoints/abc"
    assert (
        DispatcherSettings(home=tmp_path, checkpoints="s3://bucket/tangent/").checkpoints_of("abc")
        == "s3://bucket/tangent/abc"
    )


def test_all_files_of_a_deleted_study_are_removed_and_no_others(tmp_path: Path) -> None:
    store = Store.open(f"sqlite:///{tmp_path}/tangent.db")
    store.announce(catalog(), dispatcher="here")
    kept, deleted = (store.submit(parse_spec(study_body())).id for _ in range(2))
    settings = DispatcherSettings(home=tmp_path)
    for study_id in (kept, deleted, "of-another-database"):
        for folder in (settings.checkpoints_of(study_id), settings.artifacts_of(study_id)):
            Path(folder).mkdir(parents=True)
            (Path(folder) / "some.pt").touch()
        settings.log_of(study_id).parent.mkdir(exist_ok=True)
        settings.log_of(study_id).touch()
    store.move(deleted, StudyMove.CANCEL)
    store.delete(deleted)
    assert remove_closed_checkpoints(store, settings.checkpoint_folder) == 1
    assert remove_unkept_files(store, settings.artifact_folder) == 1
    assert remove_logs_of_deleted(store, tmp_path / "logs") == 1
    assert [path for path in tmp_path.rglob("*") if deleted in path.name] == []
    assert len([path for path in tmp_path.rglob("*") if kept in path.name]) == 3
    assert len([path for path in tmp_path.rglob("*") if "of-another-database" in path.name]) == 3
    store.close()
