"""A run stores what its workers have written, once, and deletes the files."""

from pathlib import Path

from simulated_dispatch import SimulatedDispatcher

from studies.states import StudyMove
from workers.output_collector import OutputCollector
from workers.output_files import output_folder, write_output

__all__: list[str] = []


def written(folder: Path, trial_id: str, text: str, *, version: int = 1) -> None:
    """Write a pack's output as a worker does."""
    header = {"pack_id": "pack", "attempts": {trial_id: 1}, "version": version, "size": len(text)}
    write_output(output_folder(str(folder)), header, text.encode())


def test_output_is_stored_in_order_and_its_files_are_deleted(
    play: SimulatedDispatcher, tmp_path: Path
) -> None:
    run = play.run()
    (trial,) = run.create(0)
    collector = OutputCollector(str(tmp_path), writer=run.writer)
    collector.collect()
    written(tmp_path, trial.id, "later", version=10)
    written(tmp_path, trial.id, "earlier", version=9)
    (tmp_path / "output" / "of-a-workload.out").write_bytes(b"\xff not ours")
    collector.collect()
    assert play.store.trial_output(trial.id).text == "later"
    assert [file.name for file in (tmp_path / "output").iterdir()] == ["of-a-workload.out"]


def test_output_that_cannot_be_stored_stays(play: SimulatedDispatcher, tmp_path: Path) -> None:
    run = play.run()
    (trial,) = run.create(0)
    written(tmp_path, trial.id, "text")
    run.writer.close(StudyMove.FINISH)
    OutputCollector(str(tmp_path), writer=run.writer).collect()
    assert len(list((tmp_path / "output").iterdir())) == 1
    assert play.store.trial_output(trial.id).text == ""
