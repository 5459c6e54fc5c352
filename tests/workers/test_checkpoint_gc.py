"""Leftover checkpoints are deleted once their study is closed; no other files are."""

from pathlib import Path

from catalogs import catalog, study_body

from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from workers.checkpoint_gc import remove_closed_checkpoints
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
