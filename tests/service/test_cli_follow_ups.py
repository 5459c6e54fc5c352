"""`tangent confirm`, `extend` and `clone`, and watching a study through its confirmation."""

import json
from collections.abc import Callable
from io import StringIO
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from rich.console import Console
from typer.testing import Result

from service.cli.progress import _Bars, reporter
from studies.extension import Extension
from studies.spec import parse_spec
from studies.states import StudyMove
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Run = Callable[..., Result]
Play = Callable[..., str]


def test_a_study_is_confirmed_on_more_seeds(
    run: Run, store: Store, body: Body, play: Play, live: str
) -> None:
    study = play(body)
    result = run("confirm", study)
    assert (result.exit_code, result.stdout) == (0, f"{study}\n")
    assert f"{live}/studies/{study}" in result.stderr
    assert store.study(study).spec.confirmation.seeds == 10
    store.move(study, StudyMove.STOP)
    assert (
        json.loads(run("confirm", study, "--seeds", "12", "--json").stdout)["spec"]["confirmation"]["seeds"]
        == 12
    )
    refused = run("confirm", study)
    assert (refused.exit_code, refused.stderr.startswith("error: cannot extend a study that is queued")) == (
        1,
        True,
    )


def test_a_study_is_extended_by_options(run: Run, store: Store, body: Body, play: Play) -> None:
    study = play(body | {"arms": ["adamp"]})
    assert (
        run("extend", study, "--trials", "5", "--replicates", "2", "--seeds", "6", "--arm", "adamw").exit_code
        == 0
    )
    spec = store.study(study).spec
    assert (spec.budget.trials_per_arm, spec.budget.replicates, spec.confirmation.seeds) == (5, 2, 6)
    assert [arm.name for arm in spec.arms] == ["adamp", "adamw"]


@pytest.mark.parametrize("dump", [json.dumps, yaml.safe_dump])
def test_options_override_an_extension_file(
    run: Run, store: Store, body: Body, play: Play, tmp_path: Path, dump: Callable[[Any], str]
) -> None:
    study = play(body)
    file = tmp_path / "extension"
    file.write_text(
        dump({"arms": [{"optimizer": "adamw", "name": "narrow", "space": {"lr": 0.1}}], "trials_per_arm": 9}),
        encoding="utf-8",
    )
    planned = run("extend", study, "--file", str(file), "--trials", "4", "--validate-only")
    assert planned.stdout.startswith(f"{study} can be extended: 3 arms, 12 trials and 30 confirmation runs, ")
    assert store.study(study).state.value == "completed"
    assert run("extend", study, "--file", str(file), "--trials", "4").exit_code == 0
    assert store.study(study).spec.budget.trials_per_arm == 4
    assert store.study(study).arms == ("adamp", "adamw", "narrow")


def test_an_invalid_extension_gets_the_messages_of_the_api(
    run: Run, body: Body, play: Play, tmp_path: Path
) -> None:
    study = play(body)
    nothing, fewer, twice = (
        run("extend", study),
        run("extend", study, "--trials", "2"),
        run("extend", study, "--arm", "adamp"),
    )
    assert [result.exit_code for result in (nothing, fewer, twice)] == [2, 2, 2]
    assert nothing.stderr.startswith("error: /: the extension adds nothing")
    assert fewer.stderr.startswith("error: /trials_per_arm: expected at least 3")
    assert twice.stderr.startswith("error: /arms/0/name: ")
    for text in ("[]", "7", "arms: adamw"):
        (tmp_path / "wrong.yaml").write_text(text, encoding="utf-8")
        assert run("extend", study, "--file", str(tmp_path / "wrong.yaml"), "--arm", "adamw").exit_code == 2


def test_a_clone_differs_only_by_its_patch_and_name(
    run: Run, store: Store, body: Body, tmp_path: Path
) -> None:
    study = store.submit(parse_spec(body)).id
    (tmp_path / "patch.yaml").write_text("seed: 3\nsuite: small\n", encoding="utf-8")
    result = run("clone", study, "--file", str(tmp_path / "patch.yaml"), "--name", "Again")
    clone = store.study(result.stdout.strip())
    assert (clone.name, clone.spec.seed, clone.suite) == ("Again", 3, "small")
    assert "2 arms, 6 trials and 20 confirmation runs" in run("clone", study, "--validate-only").stdout
    assert store.studies().total == 2
    (tmp_path / "patch.yaml").write_text("colour: red\n", encoding="utf-8")
    refused = run("clone", study, "--file", str(tmp_path / "patch.yaml"))
    assert (refused.exit_code, refused.stderr.startswith("error: /colour: unknown field")) == (
        2,
        True,
    )


def test_show_and_trials_include_the_confirmation(run: Run, body: Body, play: Play) -> None:
    study = play(body | {"suite": "small"}, confirm=3)
    shown = run("show", study).stdout
    assert "12/12 runs finished" in shown
    assert "small" in shown
    confirming = json.loads(run("trials", study, "--phase", "confirmation", "--json").stdout)
    assert {trial["phase"] for trial in confirming} == {"confirmation"}
    assert len(json.loads(run("trials", study, "--phase", "all", "--json").stdout)) == 18
    assert f"{study}.adamp.c0" in run("trials", study, "--phase", "confirmation").stdout
    assert [found["id"] for found in json.loads(run("list", "--suite", "small", "--json").stdout)] == [study]


def test_a_study_that_no_dispatcher_can_run_is_shown_with_the_reason(
    run: Run, body: Body, store: Store, live: str
) -> None:
    study = store.submit(parse_spec(body))
    assert "warning" not in run("show", study.id).stderr
    store.heartbeat("here", problem="ImportError: libray is missing")
    for arguments in (("show", study.id), ("show", study.id, "--json")):
        shown = run(*arguments)
        assert shown.exit_code == 0
        assert shown.stderr.startswith(f"warning: study {study.id} waits for ")
        assert "ImportError: libray is missing" in shown.stderr
    assert "ImportError: libray is missing" in httpx.get(f"{live}/studies/{study.id}").text


def test_watching_ends_with_the_finding(run: Run, body: Body, play: Play) -> None:
    study = play(body, confirm=5)
    last = run("watch", study).stdout.splitlines()[-1]
    assert "AdamW" in last
    assert last.endswith(f"(`tangent verdict {study}`)")


def test_lines_distinguish_confirmation_runs_from_search_trials(
    store: Store, body: Body, play: Play, capsys: pytest.CaptureFixture[str]
) -> None:
    study = play(body | {"arms": ["adamp"]}, confirm=2)
    store.extend(study, Extension(seeds=9))
    with reporter(store.study(study), store.arms(study)) as report:
        for event in store.events(study):
            report(event)
    lines = capsys.readouterr().out.splitlines()
    assert "adamp 3/3 diverged the loss is nan" in lines
    assert [line.rpartition(" completed")[0] for line in lines if "confirmation" in line] == [
        f"adamp confirmation {n}/18" for n in range(1, 5)
    ]
    assert f"{study} extended: 9 fresh seeds in total" in lines


def test_a_bar_for_the_confirmation_appears_once_it_starts(
    store: Store, body: Body, play: Play, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "service.cli.progress.console", lambda: Console(force_terminal=True, width=120, file=StringIO())
    )
    study = play(body | {"confirmation": {"seeds": 2}}, confirm=2)
    begun = store.study(study)
    with reporter(
        begun.model_copy(
            update={"progress": begun.progress.model_copy(update={"confirmations_finished": 0})}
        ),
        store.arms(study),
    ) as report:
        assert isinstance(report, _Bars)
        bars = report._bars
        assert len(bars.tasks) == 3
        for event in store.events(study):
            report(event)
        assert bars.tasks[-1].description.strip() == "confirmation"
        assert (bars.tasks[-1].completed, bars.tasks[-1].total) == (8, 8)
