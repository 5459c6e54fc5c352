"""Commands for studies against a real service: their output and exit status."""

import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from fastapi import FastAPI
from typer.testing import Result

from service.cli import tables
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.trials import Measurement, NewTrial, Report

__all__: list[str] = []

Run = Callable[..., Result]
Play = Callable[..., str]


def put(folder: Path, text: str, name: str = "study.json") -> str:
    """Return the path of a new file."""
    (folder / name).write_text(text, encoding="utf-8")
    return str(folder / name)


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_a_study_is_submitted_from_json_and_yaml(
    run: Run, store: Store, tmp_path: Path, body: dict[str, Any], dump: Callable[[Any], str], live: str
) -> None:
    result = run(
        "submit",
        put(tmp_path, dump(body), "study" if dump is yaml.safe_dump else "study.json"),
        "--name",
        "Mine",
    )
    study = store.studies().items[0]
    assert result.exit_code == 0
    assert result.stdout == f"{study.id}\n"
    assert f"Mine: {live}/studies/{study.id}" in result.stderr
    assert study.name == "Mine"


def test_a_study_is_submitted_from_standard_input(run: Run, store: Store, body: dict[str, Any]) -> None:
    assert run("submit", "-", input=json.dumps(body)).exit_code == 0
    assert store.studies().total == 1


def test_a_submission_as_json_equals_that_of_the_api(
    run: Run, tmp_path: Path, body: dict[str, Any], live: str
) -> None:
    shown = json.loads(run("submit", put(tmp_path, json.dumps(body)), "--json").stdout)
    assert shown == httpx.get(f"{live}/v1/studies/{shown['id']}").json()


def test_validate_only_shows_the_size_and_stores_nothing(
    run: Run, store: Store, tmp_path: Path, body: dict[str, Any]
) -> None:
    result = run("submit", put(tmp_path, json.dumps(body)), "--validate-only")
    assert result.exit_code == 0
    assert "2 arms, 6 trials and 20 confirmation runs, 52 epochs, about 5.20 s of training" in result.stdout
    body["budget"] = {"trials_per_arm": 3, "steps": 6000, "evaluate_every": 500}
    planned = run("submit", put(tmp_path, json.dumps(body)), "--validate-only").stdout
    assert "312 intervals of 500 steps (counted as epochs), about" in " ".join(planned.split())
    assert store.studies().total == 0


def test_show_tells_intervals_of_steps_from_epochs(run: Run, store: Store, body: dict[str, Any]) -> None:
    body["budget"] = {"trials_per_arm": 3, "steps": 6000, "evaluate_every": 500}
    shown = run("show", store.submit(parse_spec(body)).id).stdout
    assert "12 intervals of 500 steps (counted as epochs), batch size 32" in " ".join(shown.split())


@pytest.mark.parametrize(
    "wrong",
    [
        {"arms": ["adamq", {"optimizer": "adamw", "space": {"lr": -1, "beta3": 0.9}}]},
        {"budget": {"trials_per_arm": 0}},
        {"sampler": "guess", "colour": "red"},
    ],
)
def test_an_invalid_study_gets_the_messages_of_the_api(
    run: Run, store: Store, tmp_path: Path, body: dict[str, Any], wrong: dict[str, Any], live: str
) -> None:
    body |= wrong
    result = run("submit", put(tmp_path, json.dumps(body)))
    faults = httpx.post(f"{live}/v1/studies", json=body).json()["errors"]
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.splitlines() == [f"error: {fault['pointer']}: {fault['detail']}" for fault in faults]
    assert store.studies().total == 0


@pytest.mark.parametrize("text", ["[]", "7", '"adamp"'])
def test_a_file_that_is_not_an_object_is_rejected(run: Run, tmp_path: Path, text: str) -> None:
    result = run("submit", put(tmp_path, text))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: /: expected an object with workload, arms and budget, got ")


def test_an_unreadable_file_is_a_one_line_error(run: Run, tmp_path: Path) -> None:
    result = run("submit", str(tmp_path / "none.json"))
    assert (result.exit_code, result.stderr) == (
        2,
        f"error: {tmp_path}/none.json: cannot be read: no such file or directory\n",
    )


def test_list_shows_the_newest_first_and_hints_at_more(run: Run, store: Store, body: dict[str, Any]) -> None:
    assert "There are no studies yet" in run("list").stdout
    ids = [store.submit(parse_spec(body)).id for _ in range(3)]
    lines = run("list", "-n", "2").stdout.splitlines()
    assert [line.split()[0] for line in lines[1:3]] == ids[:0:-1]
    assert "--limit" in lines[-1]
    assert [study["id"] for study in json.loads(run("list", "--json", "--state", "queued").stdout)] == ids[
        ::-1
    ]
    assert json.loads(run("list", "--workload", "char-lm", "--json").stdout) == []


def test_list_searches_filters_and_orders_and_shows_tags_and_verdicts(
    run: Run, play: Play, store: Store, tmp_path: Path, body: dict[str, Any]
) -> None:
    first = play(body | {"name": "Warm restarts", "tags": ["thesis"]}, confirm=5)
    file = put(tmp_path, json.dumps(body | {"tags": ["thesis"]}))
    second = run("submit", file, "--tag", "chapter-3", "--tag", "thesis").stdout.strip()
    assert store.study(second).tags == ("thesis", "chapter-3")
    third = run("clone", second, "--tag", "other").stdout.strip()
    assert store.study(third).tags == ("other",)

    def listed(*options: str) -> list[str]:
        return [study["id"] for study in json.loads(run("list", "--json", *options).stdout)]

    assert listed("--order", "oldest") == [first, second, third]
    assert listed("--tag", "thesis", "--order", "oldest") == [first, second]
    assert listed("-q", "WARM digits") == listed("--search", "restarts") == [first]
    assert listed("--owner", "ada") == []
    refused = run("list", "--tag", "Two words")
    assert (refused.exit_code, "/tag" in refused.stderr) == (2, True)
    deadline = time.monotonic() + 60
    while (verdict := json.loads(run("list", "-q", first, "--json").stdout)[0]["verdict"]) is None:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    wide, narrow = (run("list", columns=columns).stdout.splitlines() for columns in (200, 80))
    assert wide[0].split()[-2:] == ["verdict", "tags"]
    assert verdict in wide[3]
    assert "thesis" in wide[3]
    assert narrow[0].split()[-1] == "name"
    assert verdict not in " ".join(narrow)


def test_show_has_the_facts_of_a_study_and_its_arms(
    run: Run, play: Play, body: dict[str, Any], live: str
) -> None:
    study_id = play(body)
    shown = run("show", study_id).stdout
    for part in (
        "completed",
        "digits-mlp",
        "2 epochs",
        "6/6 finished; 2 diverged",
        f"{live}/studies/{study_id}",
        "adamp",
        "adamw",
        "1 diverged",
    ):
        assert part in shown
    as_json = json.loads(run("show", study_id, "--json").stdout)
    assert as_json["id"] == study_id
    assert [arm["name"] for arm in as_json["arms"]] == ["adamp", "adamw"]


def test_best_prints_python_that_can_be_pasted(
    run: Run, store: Store, play: Play, body: dict[str, Any]
) -> None:
    study_id = play(body)
    shown = run("best", study_id).stdout
    for arm in store.arms(study_id):
        assert arm.best is not None
        assert arm.best.python.rstrip() in shown
    code = shown[shown.index("# adamp: accuracy") :]
    compile(code, "pasted", "exec")


def test_best_of_one_arm_prints_only_its_code(
    run: Run, store: Store, play: Play, body: dict[str, Any]
) -> None:
    study_id = play(body)
    best = store.arms(study_id)[0].best
    assert best is not None
    assert run("best", study_id, "--python", "adamp").stdout == best.python.rstrip() + "\n"
    as_json = json.loads(run("best", study_id, "--json").stdout)
    assert as_json[0] == {"arm": "adamp", "best": best.model_dump(mode="json")}
    assert json.loads(run("best", study_id, "--arm", "adamp", "--json").stdout) == as_json[:1]
    assert "adamw" not in run("best", study_id, "--arm", "adamp").stdout
    assert run("best", study_id, "--arm", "sgd").exit_code == 2


def test_best_of_an_arm_without_a_result_says_so(run: Run, store: Store, body: dict[str, Any]) -> None:
    study_id = store.submit(parse_spec(body)).id
    assert "# adamp: no trial has completed" in run("best", study_id).stdout
    nothing, unknown = run("best", study_id, "--python", "adamp"), run("best", study_id, "--python", "sgd")
    assert (nothing.exit_code, nothing.stderr) == (1, "error: no trial of 'adamp' has completed yet\n")
    assert (unknown.exit_code, unknown.stderr) == (
        2,
        f"error: study {study_id!r} has no arm 'sgd'; it has adamp, adamw\n",
    )


@pytest.mark.parametrize(
    ("direction", "order"), [("maximize", ["adamw", "adamp"]), ("minimize", ["adamp", "adamw"])]
)
def test_the_best_arm_comes_first_in_both_directions(
    store: Store, play: Play, body: dict[str, Any], direction: str, order: list[str]
) -> None:
    study_id = play(body)
    card = store.study(study_id).workload_card.model_copy(update={"direction": direction})
    first, second = store.arms(study_id)
    assert first.best is not None
    better = second.model_copy(
        update={"best": first.best.model_copy(update={"value": first.best.value + 0.1})}
    )
    assert [arm.name for arm in tables.ranked([first, better], card)] == order
    without = first.model_copy(update={"best": None})
    assert [arm.name for arm in tables.ranked([without, better], card)] == ["adamw", "adamp"]


def test_trials_are_filtered_and_sorted(run: Run, play: Play, body: dict[str, Any]) -> None:
    study_id = play(body)
    best_first = json.loads(run("trials", study_id, "--arm", "adamw", "--sort", "value", "--json").stdout)
    assert [trial["number"] for trial in best_first] == [1, 0, 2]
    diverged = run("trials", study_id, "--state", "diverged").stdout
    assert diverged.count("the loss is nan") == 2
    assert run("trials", study_id, "-n", "2").stdout.count(f"{study_id}.") == 2
    assert json.loads(run("trials", study_id, "--state", "failed", "--json").stdout) == []


def test_an_unknown_order_or_arm_is_an_error(run: Run, play: Play, body: dict[str, Any]) -> None:
    study_id = play(body)
    assert run("trials", study_id, "--sort", "colour").exit_code == 2
    unknown = run("trials", study_id, "--arm", "sgd")
    assert unknown.exit_code == 1
    assert "has no arm 'sgd'; it has adamp, adamw" in unknown.stderr


def test_verbs_change_the_state_and_an_illegal_verb_lists_the_allowed_ones(
    run: Run, store: Store, body: dict[str, Any]
) -> None:
    study_id = store.submit(parse_spec(body)).id
    assert run("pause", study_id).stdout == f"{study_id} is paused\n"
    assert run("resume", study_id).stdout == f"{study_id} is queued\n"
    refused = run("resume", study_id)
    assert refused.exit_code == 1
    assert refused.stderr.startswith(
        "error: cannot resume a study that is queued: it allows pause, stop, cancel"
    )
    assert run("stop", study_id).exit_code == 0
    assert store.study(study_id).state.value in {"stopping", "completed"}


def test_an_id_can_be_a_unique_prefix_or_last(run: Run, store: Store, body: dict[str, Any]) -> None:
    assert "error: there are no studies yet" in run("show", "last").stderr
    ids = [store.submit(parse_spec(body)).id for _ in range(2)]
    assert json.loads(run("show", "last", "--json").stdout)["id"] == ids[1]
    short = next(ids[0][:n] for n in range(1, 9) if not ids[1].startswith(ids[0][:n]))
    assert json.loads(run("show", short, "--json").stdout)["id"] == ids[0]
    ambiguous = run("show", "")
    assert ambiguous.exit_code == 2
    assert all(study in ambiguous.stderr for study in ids)
    unknown = run("show", "zzzzzzzz")
    assert (unknown.exit_code, unknown.stderr) == (
        1,
        "error: there is no study 'zzzzzzzz'; list studies with `tangent list`\n",
    )


def test_watching_a_closed_study_without_a_terminal_prints_its_arms_and_ends(
    run: Run, play: Play, body: dict[str, Any]
) -> None:
    study_id = play(body)
    result = run("watch", study_id)
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == f"{study_id} is completed"
    assert [line.split()[0] for line in lines[1:]] == ["arm", "adamp", "adamw"]
    assert run("watch", study_id, "--json").stdout == run("show", study_id, "--json").stdout


def test_watching_without_a_terminal_prints_a_line_for_each_trial(
    run: Run, store: Store, body: dict[str, Any], live_app: FastAPI
) -> None:
    study_id = store.submit(parse_spec(body | {"arms": ["adamp"]})).id
    runner = threading.Thread(target=lambda: (wait_for_a_watcher(live_app), train(store, study_id)))
    runner.start()
    result = run("watch", study_id)
    runner.join()
    assert result.exit_code == 0
    for line in (
        f"{study_id} running",
        "adamp 1/3 completed accuracy 90.00 %",
        f"{study_id}.adamp.1 requeued: its worker was lost",
        "adamp 2/3 diverged the loss is nan",
        f"{study_id} completed",
    ):
        assert line in result.stdout.splitlines()


def test_watching_a_study_that_is_cancelled_fails(
    run: Run, store: Store, body: dict[str, Any], live_app: FastAPI
) -> None:
    study_id = store.submit(parse_spec(body)).id
    canceller = threading.Thread(
        target=lambda: (wait_for_a_watcher(live_app), store.move(study_id, StudyMove.CANCEL))
    )
    canceller.start()
    result = run("watch", study_id)
    canceller.join()
    assert result.exit_code == 1
    assert f"{study_id} is cancelled" in result.stdout


def wait_for_a_watcher(app: FastAPI) -> None:
    """Wait until an event stream is open."""
    deadline = time.monotonic() + 30
    while app.state.streams.open == 0 and time.monotonic() < deadline:
        time.sleep(0.01)


def train(store: Store, study_id: str) -> None:
    """Run a study of one arm: one trial completes, one is lost once and then diverges, one completes."""
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60.0)
    arm = store.arms(study_id)[0]
    first, second, third = writer.create(
        [NewTrial(arm.name, n, "default", arm.defaults, seed=7) for n in range(3)]
    )
    measurement = Measurement(
        epoch=1, elapsed_s=0.5, lr=0.001, train_loss=1.0, validation_loss=1.1, validation_metric=0.9
    )
    done = {"ended": "completed", "value": 0.9, "best_epoch": 1, "test_value": 0.8}
    writer.start([first, second])
    writer.record([Report(first.id, 1, measurement, **done)])
    (again,) = writer.requeue([(second.id, second.attempt)], reason="its worker was lost", max_retries=3)
    writer.report_progress()
    writer.start([again, third])
    writer.record(
        [
            Report(again.id, again.attempt, measurement, ended="diverged", reason="the loss is nan"),
            Report(third.id, 1, measurement, **done),
        ]
    )
    writer.report_progress()
    writer.close(StudyMove.FINISH)
