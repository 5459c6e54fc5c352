"""The weights that a study keeps: what the file holds, what is refused, and which run's they are."""

import hashlib
from pathlib import Path
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of
from running import Running
from torch import nn

from studies.errors import SpecInvalid
from studies.spec import parse_spec
from studies.store import Store
from workers.checkpoint_gc import remove_unkept_files
from workers.pack_protocol import Keeping, Member, MemberReport, Outcome, Pack
from workers.solo import Solo
from workers.training import train_pack
from workers.weights import keep_weights, load_weights
from workers.workload_errors import CannotTrain

__all__: list[str] = []

DIGITS = WORKLOADS["digits-mlp"]


def keeping(folder: Path, limit: int = 10**9) -> Keeping:
    return Keeping(folder=str(folder), max_weights_bytes=limit)


def keeper(number: int, *, seed: int, **parameters: Any) -> Member:
    """Return a confirmation run that keeps its arm's best weights."""
    made = member("adamw", f"study.adamw.c{number}", seed=seed, **parameters)
    return made.model_copy(update={"keep_weights": "best"})


def last_reports(pack: Pack) -> dict[str, MemberReport]:
    """Train a pack, and return the last report of each member."""
    reports = train_pack(pack, workload=DIGITS, entry=OPTIMIZERS["adamw"], data=data_of(DIGITS), device=CPU)
    return {part.trial_id: part for report in reports for part in report.members}


@pytest.mark.parametrize("width", [1, 2])
def test_the_file_holds_the_evaluated_model_of_the_first_run_that_completes(
    tmp_path: Path, width: int
) -> None:
    members = (keeper(0, seed=3, lr=1e9), keeper(1, seed=4), keeper(2, seed=5))
    pack = pack_of(DIGITS, "adamw", *members, epochs=1, width=width, keeping=keeping(tmp_path))
    last = last_reports(pack)
    assert last["study.adamw.c0"].outcome is not None
    assert last["study.adamw.c0"].outcome.state == "diverged"
    assert [len(last[each.trial_id].kept) for each in members] == [0, 1, 0]
    (kept,) = last["study.adamw.c1"].kept
    file = tmp_path / kept.id
    assert [path.name for path in tmp_path.iterdir()] == [kept.id]
    assert (kept.size, kept.sha256) == (
        file.stat().st_size,
        hashlib.sha256(file.read_bytes()).hexdigest(),
    )
    loaded = torch.load(file, weights_only=True)
    outcome = last["study.adamw.c1"].outcome
    assert outcome is not None
    assert {
        name: loaded[name] for name in ("workload", "optimizer", "study_id", "arm", "trial_id", "seed")
    } == {
        "workload": "digits-mlp",
        "optimizer": "adamw",
        "study_id": "study",
        "arm": "adamw",
        "trial_id": "study.adamw.c1",
        "seed": 4,
    }
    assert (loaded["value"], loaded["epoch"], loaded["parameters"]) == (
        outcome.value,
        1,
        members[1].parameters,
    )
    model = DIGITS.build_model()
    model.load_state_dict(load_weights(file, sha256=kept.sha256)["model"])
    validation = data_of(DIGITS).validation
    with torch.no_grad():
        correct = (model.eval()(validation.inputs).argmax(dim=1) == validation.targets).float().mean()
    assert correct.item() == pytest.approx(outcome.value, abs=1e-3)


def test_weights_above_the_limit_and_in_a_place_that_cannot_be_written_cost_no_trial(tmp_path: Path) -> None:
    outcome = Outcome(state="completed", value=0.5, best_epoch=1, test_value=0.5)
    model = {"weight": torch.zeros(1000)}
    small = pack_of(DIGITS, "adamw", keeper(0, seed=3), epochs=1, keeping=keeping(tmp_path, limit=3999))
    (tmp_path / "file").touch()
    nowhere = small.model_copy(update={"keeping": keeping(tmp_path / "file" / "folder")})
    for pack in (small, nowhere):
        kept = keep_weights(model, pack=pack, member=pack.members[0], weights_of="best", outcome=outcome)
        assert kept.sha256 is None
        assert kept.reason
    unreadable = keep_weights(
        {"weight": Path("x")},
        pack=small,
        member=small.members[0],
        weights_of="best",
        outcome=outcome,
    )
    assert unreadable.sha256 is None
    assert [path.name for path in tmp_path.iterdir()] == ["file"], "nothing half-written is left"


def test_a_part_of_a_large_tensor_is_saved_alone(tmp_path: Path) -> None:
    pack = pack_of(DIGITS, "adamw", keeper(0, seed=3), epochs=1, keeping=keeping(tmp_path))
    model = {"row": torch.zeros(1000, 1000)[3]}
    outcome = Outcome(state="completed", value=0.5, best_epoch=1, test_value=0.5)
    kept = keep_weights(model, pack=pack, member=pack.members[0], weights_of="best", outcome=outcome)
    assert kept.size < 20_000


def test_another_file_is_not_taken_for_weights(tmp_path: Path) -> None:
    torch.save({"format": "something else"}, tmp_path / "other.pt")
    torch.save(nn.Linear(1, 1), tmp_path / "module.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK")
    for name in ("other.pt", "module.pt", "damaged.pt", "missing.pt"):
        with pytest.raises(CannotTrain, match=name):
            load_weights(tmp_path / name)
    with pytest.raises(CannotTrain, match="SHA-256"):
        load_weights(tmp_path / "other.pt", sha256="00" * 32)


def test_the_confirmation_of_the_best_keeps_its_weights_until_one_is_kept(store: Store) -> None:
    running = Running(
        store,
        confirmation={"seeds": 2},
        keep={"weights": "best-and-defaults"},
        resources={"max_pack_size": 1},
    )
    packs = running.train_all(value=lambda trial, _epoch: 0.9 if trial.endswith(".2") else 0.5)
    wanted = {each.trial_id: each.keep_weights for pack in packs for each in pack.members}
    confirmations = running.confirmations()
    assert {(trial.confirms, wanted[trial.id]) for trial in confirmations} == {(0, "defaults"), (2, "best")}
    assert {wanted[trial.id] for trial in running.trials()} == {None}
    assert {pack.keeping.folder for pack in packs if pack.keeping is not None} == {"/kept-files/here"}


def test_a_study_that_keeps_weights_has_a_confirmation() -> None:
    body = {"workload": "w", "arms": ["adamp"], "budget": {"trials_per_arm": 1}, "keep": {"weights": "best"}}
    assert parse_spec(body).keep.weights == "best"
    with pytest.raises(SpecInvalid) as caught:
        parse_spec({**body, "confirmation": {"seeds": 0}})
    assert [problem.pointer for problem in caught.value.problems] == ["/keep"]
    assert parse_spec({**body, "keep": {}}).keep.weights == "none"


def test_only_files_of_closed_studies_that_are_not_kept_are_deleted(store: Store, tmp_path: Path) -> None:
    running, folder = Running(store), tmp_path / "kept-files"
    for study in (running.study.id, "another"):
        (folder / study).mkdir(parents=True)
        (folder / study / ("0" * 32)).touch()
    assert remove_unkept_files(store, str(folder)) == 0
    running.close()
    assert remove_unkept_files(store, str(folder)) == 1
    assert [path.name for path in folder.iterdir()] == ["another"]
    assert remove_unkept_files(store, str(tmp_path / "nothing")) == 0


def test_a_trial_that_is_trained_alone_gives_its_live_weights() -> None:
    pack = pack_of(DIGITS, "adamw", keeper(0, seed=3), epochs=1)
    solo = Solo(
        pack.members[0],
        pack=pack,
        workload=DIGITS,
        entry=OPTIMIZERS["adamw"],
        data=data_of(DIGITS),
        device=CPU,
    )
    weights = solo.weights()
    assert all(
        weights[name].data_ptr() == parameter.data_ptr() for name, parameter in solo.model.named_parameters()
    ), "a second copy would double the memory of a large model"
