"""A run stores what its workers have written, once, and deletes the files."""

import threading
from pathlib import Path

from simulated_dispatch import SimulatedDispatcher

from studies.states import StudyMove
from workers.output_collector import OutputCollector
from workers.output_files import output_folder, write_output

__all__: list[str] = []


def written(folder: Path, trial_id: str, text: str, *, version: int = 1, is_last: bool = False) -> None:
    """Write a pack's output as a worker does."""
    header = {
        "pack_id": "pack",
        "attempts": {trial_id: 1},
        "version": version,
        "size": len(text),
        "is_last": is_last,
    }
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


def test_the_last_output_of_a_lost_worker_is_waited_for(play: SimulatedDispatcher, tmp_path: Path) -> None:
    run = play.run()
    (trial,) = run.create(0)
    collector = OutputCollector(str(tmp_path), writer=run.writer)
    written(tmp_path, trial.id, "early", version=9)
    last = {"version": 10, "is_last": True}
    writing = threading.Timer(0.3, written, (tmp_path, trial.id, "early and last"), last)
    writing.start()
    collector.collect_last(lost_packs={"pack"})
    writing.join()
    assert play.store.trial_output(trial.id).text == "early and last"


def test_output_that_cannot_be_stored_stays(play: SimulatedDispatcher, tmp_path: Path) -> None:
    run = play.run()
    (trial,) = run.create(0)
    written(tmp_path, trial.id, "text")
    run.writer.close(StudyMove.FINISH)
    OutputCollector(str(tmp_path), writer=run.writer).collect()
    assert len(list((tmp_path / "output").iterdir())) == 1
    assert play.store.trial_output(trial.id).text == ""
