"""`tangent verdict`, `compare` and `suite` against a real service."""

import json
import re
from collections.abc import Callable
from typing import Any

import httpx
from trained_studies import Trained
from typer.testing import Result

from studies.spec import parse_spec
from studies.store import Store

__all__: list[str] = []

Body = dict[str, Any]
Run = Callable[..., Result]
Play = Callable[..., str]


def test_a_verdict_opens_with_the_finding_and_its_limits(run: Run, body: Body, play: Play, live: str) -> None:
    study = play(body, confirm=5)
    result = run("verdict", study)
    answer = httpx.get(f"{live}/v1/studies/{study}/analysis")
    found = json.loads(answer.text.replace("\N{NO-BREAK SPACE}", " "))
    assert result.exit_code == 0
    lines = result.stdout.splitlines()
    assert lines[0] == found["finding"]["sentence"]
    assert lines[1 : 1 + len(found["finding"]["limits"])] == [
        f"- {limit}" for limit in found["finding"]["limits"]
    ]
    assert [line for line in lines if line.startswith("adamp") and "worse than" in line and "adamw" in line]
    assert [line for line in lines if line.startswith("adamw") and "best (trial 1)" in line and "5/5" in line]
    for check in found["checks"]:
        assert f"{'warning' if check['is_warning'] else 'note'}: {check['sentence']}" in lines


def test_a_verdict_lists_the_best_arm_first(run: Run, body: Body, play: Play) -> None:
    lines = run("verdict", play(body, confirm=5)).stdout.splitlines()
    assert [line.split()[0] for line in lines if "(trial " in line] == ["adamw", "adamw", "adamp", "adamp"]


def test_a_verdict_without_confirmation_runs_claims_no_difference(
    run: Run, store: Store, body: Body, play: Play
) -> None:
    for study in (store.submit(parse_spec(body)).id, play(body | {"confirmation": {"seeds": 0}})):
        result = run("verdict", study)
        assert result.exit_code == 0
        assert not re.search(r"^adam\w+ +(better|worse) than", result.stdout, flags=re.MULTILINE)


def test_json_output_equals_that_of_the_api(run: Run, body: Body, play: Play, live: str) -> None:
    first, second = play(body | {"suite": "small"}, confirm=3), play(body, confirm=3)
    asked = {
        ("verdict", first): f"/v1/studies/{first}/analysis",
        ("compare", first, second): f"/v1/comparison?study={first}&study={second}",
        ("suite", "small"): "/v1/suites/small",
    }
    for command, path in asked.items():
        assert json.loads(run(*command, "--json").stdout) == httpx.get(f"{live}{path}").json()
    assert json.loads(run("suite", "--json").stdout) == httpx.get(f"{live}/v1/suites").json()["items"]


def test_studies_are_compared_by_shortened_ids(run: Run, store: Store, body: Body, play: Play) -> None:
    first, second = play(body, confirm=3), play(body | {"arms": ["adamw"], "seed": 1}, confirm=3)
    short = next(first[:n] for n in range(1, 9) if not second.startswith(first[:n]))
    shown = run("compare", short, "last").stdout
    assert shown.count(first) >= 2
    assert shown.count(second) >= 1
    arms = run("compare", f"{short}.adamp", "last.adamw").stdout
    assert arms.count(first) == arms.count(second) == 1
    assert "There is no budget verdict" in arms
    one, twice = run("compare", first), run("compare", first, first)
    assert (one.exit_code, twice.exit_code) == (2, 2)
    assert f"tangent verdict {first}" in one.stderr
    other = store.submit(parse_spec(body | {"workload": "char-lm"})).id
    assert run("compare", first, other).exit_code == 2


def test_suites_are_listed_and_one_is_shown(run: Run, body: Body, play: Play) -> None:
    assert "There are no suites yet" in run("suite").stdout
    studies = [
        play(body | {"suite": "small", "workload": workload}, confirm=3)
        for workload in ("digits-mlp", "char-lm")
    ]
    assert "char-lm, digits-mlp" in run("suite").stdout
    shown = run("suite", "small").stdout
    for part in ("IQM", "AlgoPerf", "adamp", "adamw", *studies):
        assert part in shown
    unknown = run("suite", "none")
    assert (unknown.exit_code, unknown.stderr.startswith("error: there is no suite 'none'")) == (1, True)


def test_a_verdict_shows_no_accuracy_above_1(run: Run, store: Store) -> None:
    # Two seeds have a wide interval, whose upper end is above 1.
    budget = {"trials_per_arm": 8, "epochs": 3}
    study = (
        Trained(store, width=8, seed=4, budget=budget, confirmation={"seeds": 2}).train().confirm().close()
    )
    analysis = json.loads(run("verdict", study.id, "--json").stdout)
    assert max(each["test_high"] for each in analysis["confirmed"]) > 1
    ends = re.findall(r"\d to (\d+\.\d+) %", run("verdict", study.id).stdout)
    assert max(map(float, ends)) == 100
