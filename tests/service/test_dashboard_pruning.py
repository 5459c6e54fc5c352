"""Pruning on the page: rungs, waiting and promoted trials, packs, and charts of pruned trials."""

import json
import math
import re
from collections.abc import Callable
from typing import Any

import httpx
import pytest
from catalogs import catalog
from pruned_studies import Pruned
from trained_studies import Trained

from service.cli.tables import memory_text
from service.dashboard.figures import Against, FigureData, budget_charts, furthest_pruned, study_charts
from service.dashboard.pack_text import describe_memory, describe_pack, describe_stacking
from service.dashboard.pruning import describe_epochs, rung_table
from service.pruner_text import describe_pruner
from studies.analysis.analyse import analyse
from studies.states import StudyMove, TrialState
from studies.store import Store

AGAINST: tuple[Against, ...] = ("trials", "epochs", "seconds")
NINE = {"trials_per_arm": 9, "epochs": 9}


@pytest.fixture
def known(store: Store) -> Store:
    """A store with these tests' catalogue."""
    store.announce(catalog(), dispatcher="here")
    return store


@pytest.fixture
def page(http: httpx.Client, known: Store) -> Callable[[str], str]:
    """The text of a page without scripts and tags."""
    assert known is not None
    http.headers["accept"] = "text/html"

    def read(path: str) -> str:
        answer = http.get(path)
        assert answer.status_code == 200, answer.text
        bare = re.sub(r"<script.*?</script>|<[^>]+>", " ", answer.text, flags=re.DOTALL)
        return re.sub(r"\s+", " ", bare).replace("&#39;", "'")

    return read


def test_a_pruned_study_shows_its_rungs_and_promotions(page: Callable[[str], str], known: Store) -> None:
    shown = page(f"/studies/{Pruned(known, budget=NINE).train().close().id}")
    assert "Arm Promoted at epoch 1 Promoted at epoch 3 Trained to epoch 9" in shown
    assert "AdamP 3 of 9 (1 diverged or failed) 1 of 3 1 AdamW" in shown
    assert "rungs after epochs 1 and 3 of 9" in shown
    assert "1 of 9 completed, 1 diverged, 7 pruned" in shown
    assert "21 of 21" in shown
    assert "Pruned: 14 of 18 trials" in shown


def test_trials_at_a_rung_are_shown_as_waiting(page: Callable[[str], str], known: Store) -> None:
    run = Pruned(known).train(1)
    shown = page(f"/studies/{run.id}")
    assert {arm.name: arm.progress.waiting for arm in known.arms(run.id)} == {"adamp": 2, "adamw": 2}
    assert "0 trials in training, 4 waiting at a rung, 14 to come" in shown
    assert "0 of 18 completed, 4 waiting" in shown
    assert "waiting at epoch 1" in shown
    assert "1 of 3 (2 waiting)" in shown
    assert "21 epochs" in shown
    assert "waiting at epoch 1" in page(f"/studies/{run.id}?state=queued")
    assert "4 of 4 trials" in page(f"/studies/{run.id}?state=waiting")
    assert "0 of 18, 4 waiting" in page("/")


def test_waiting_trials_can_be_filtered_and_downloaded(http: httpx.Client, known: Store) -> None:
    run = Pruned(known).train(1)
    lines = http.get(f"/studies/{run.id}/trials.csv?arm=adamp&state=waiting").text.splitlines()
    assert [line.split(",")[:4] for line in lines[1:]] == [
        [f"{run.id}.adamp.{n}", "adamp", str(n), "queued"] for n in (0, 2)
    ]
    assert '<option value="waiting" selected>' in http.get(f"/studies/{run.id}?state=waiting").text


def test_a_study_without_a_pruner_has_no_rungs(
    page: Callable[[str], str], http: httpx.Client, known: Store
) -> None:
    run = Trained(known).train().close()
    shown = page(f"/studies/{run.id}")
    assert "Rungs" not in shown
    assert "Epochs left" not in shown
    assert '<option value="waiting"' not in http.get(f"/studies/{run.id}").text
    assert rung_table(known.study(run.id), known.arms(run.id), known.every_trial(run.id)) is None


def test_a_promotion_reaches_a_page_that_is_open(http: httpx.Client, known: Store) -> None:
    http.headers["accept"] = "text/html"
    run = Pruned(known, arms=["adamw"])
    pack = run.begin_pack("adamw")
    for trial in pack:
        run.report(trial, 1, size=len(pack))

    def ask(html: str) -> str:
        found = re.search(r'hx-get="([^"]*/live[^"]*)"', html)
        assert found is not None
        return found[1].replace("&amp;", "&")

    study, trial = ask(http.get(f"/studies/{run.id}").text), ask(http.get(f"/trials/{run.id}.adamw.1").text)
    assert (http.get(study).status_code, http.get(trial).status_code) == (204, 204)
    run.settle("adamw")
    assert "2 waiting" in http.get(study).text
    assert "Promoted at the rung after epoch 1 of 9" in http.get(trial).text
    run.train(1)
    update = http.get(study).text
    assert 'id="rungs" hx-swap-oob="morph"' in update
    assert http.get(ask(update)).status_code == 204


@pytest.mark.parametrize("at", ["last", "best"])
def test_a_trial_says_at_which_rung_it_is(page: Callable[[str], str], known: Store, at: str) -> None:
    run = Pruned(known, arms=["adamw"], objective={"at": at}).train(1)
    value = known.measurements(f"{run.id}.adamw.0")[0].validation_metric
    assert value is not None
    waits = page(f"/trials/{run.id}.adamw.0")
    assert (
        f"waiting Waiting at the rung after epoch 1 of 9 with {100 * value:.2f} % validation accuracy"
        in waits
    )
    assert "trained with 2 others" in waits
    assert "Promoted at the rung after epoch 1 of 9" in page(f"/trials/{run.id}.adamw.1")
    [second] = run.begin_pack("adamw")
    assert "In training: 1 of 9 epochs done; next rung after epoch 3" in page(f"/trials/{second.id}")
    ended = Pruned(known, arms=["adamw"]).train().close()
    pruned = next(
        t for t in known.every_trial(ended.id) if t.state is TrialState.PRUNED and t.epochs_done == 3
    )
    assert "Pruned at the rung after epoch 3 of 9 with" in page(f"/trials/{pruned.id}")


def test_a_trial_shows_its_bracket_with_the_rungs(page: Callable[[str], str], known: Store) -> None:
    run = (
        Pruned(known, arms=["adamw"], pruner="hyperband", budget={"trials_per_arm": 9, "epochs": 9})
        .train()
        .close()
    )
    by_bracket = {t.bracket: t.id for t in known.every_trial(run.id)}
    assert "Bracket 1 of 3: rungs after epochs 1 and 3 of 9" in page(f"/trials/{by_bracket[0]}")
    assert "Bracket 2 of 3: rung after epoch 3 of 9" in page(f"/trials/{by_bracket[1]}")
    assert "Bracket 3 of 3: no rungs: trains all 9 epochs at once" in page(f"/trials/{by_bracket[2]}")
    study = page(f"/studies/{run.id}")
    assert (
        "3 brackets, the first with rungs after epochs 1 and 3 of 9, each further one with one rung fewer"
        in study
    )
    assert "All brackets" in study
    assert "Bracket" not in page(f"/trials/{Pruned(known).train(1).id}.adamp.0")


def test_the_page_says_why_arms_trained_different_numbers_of_epochs(known: Store) -> None:
    def text_of(run: Pruned) -> str:
        return describe_epochs(known.study(run.id), known.arms(run.id))

    median = Pruned(known, pruner={"kind": "median", "min_trials": 2}).train(1)
    assert re.match(r"Each arm will train up to 81 epochs: .*median", text_of(median))
    median.train().close()
    diverged = known.study(median.id).progress.diverged
    assert re.fullmatch(
        rf"The arms trained \d+ to \d+ epochs: .*median.*, and {diverged} trials? diverged\.", text_of(median)
    )
    stopped = Pruned(known).train(2)
    stopped.train_pack("adamp")
    known.move(stopped.id, StudyMove.STOP)
    stopped.close()
    assert "the study ended before all trials were trained" in text_of(stopped)
    assert text_of(Pruned(known, arms=["adamw"]).train(1)) == ""
    few = {
        "optimizer": "adamw",
        "name": "few",
        "space": {"lr": {"choices": [0.001, 0.01]}, "weight_decay": 0.0},
    }
    unequal = Pruned(known, arms=["adamw", few])
    assert text_of(unequal).startswith("The arms will train 10 to 21 epochs: ")


def test_a_long_list_of_rungs_is_shortened(known: Store) -> None:
    run = Pruned(
        known,
        arms=["adamw"],
        pruner={"kind": "median", "min_trials": 2},
        budget={"trials_per_arm": 2, "epochs": 20},
    ).train()
    study = known.study(run.id)
    assert describe_pruner(study).endswith("rungs after epochs 1, 2, 3, 4, 5, 6, … 19 of 20")
    table = rung_table(study, known.arms(run.id), known.every_trial(run.id))
    assert table is not None
    assert len(table.headers) == len(table.rows[0]) == 10
    assert "11 rungs" in table.caption


def test_the_stack_width_is_shown_with_its_gain_or_reason(page: Callable[[str], str], known: Store) -> None:
    run = Pruned(known, arms=["adamp", "adamw", "sgdp"])
    run.fit("adamp", width=8, w1=900.0, w8=5670.0)
    run.fit("adamw", width=1, reason="Members are trained one by one: AdamW has no batched form.")
    shown = page(f"/studies/{run.id}")
    assert "Trained 8 at a time on the CPU: 6.3× the steps per second." in shown
    assert "Trained one by one on the CPU: AdamW has no batched form." in shown
    run.fit("adamp", width=4, reason="Memory ran out with 8 members in a stack: 4 at a time from then on.")
    by_name = {arm.name: describe_stacking(arm.fit) for arm in known.arms(run.id)}
    assert by_name["adamp"].startswith("Trained 4 at a time on the CPU. Memory ran out")
    assert by_name["sgdp"] == ""
    run.train(1)
    trial = known.trial(f"{run.id}.adamp.0")
    assert describe_pack(trial.model_copy(update={"pack_size": 1})) == "trained alone"
    assert describe_pack(trial.model_copy(update={"pack_size": None})) == "–"
    measured = trial.model_copy(
        update={"pack_size": 4, "memory_bytes": 120_000_000, "device_memory_bytes": 5_000_000}
    )
    assert describe_memory(trial) == "–"
    assert describe_memory(measured) == "120\u00a0MB, and 5\u00a0MB on the GPU: its share of the pack's peak"
    alone = measured.model_copy(update={"pack_size": 1, "device_memory_bytes": None})
    assert describe_memory(alone) == "120\u00a0MB"
    assert memory_text(measured) == "120\u00a0MB + 5\u00a0MB"


def figure_data(store: Store, study_id: str) -> FigureData:
    arms, trials = store.arms(study_id), store.every_trial(study_id)
    return FigureData(
        study=store.study(study_id),
        arms=arms,
        analysis=analyse(store.study_record(study_id)),
        trials=trials,
        best_runs={arm.name: store.measurements(arm.best.trial_id) for arm in arms if arm.best is not None},
        pruned_runs={
            arm.name: tuple(store.measurements(t.id) for t in furthest_pruned(trials, arm, arms=len(arms)))
            for arm in arms
        },
    )


def charts(store: Store, study_id: str) -> dict[str, Any]:
    return {chart.id: chart for group in study_charts(figure_data(store, study_id)) for chart in group.charts}


def test_pruned_trials_are_marked_apart_in_the_lr_chart(known: Store) -> None:
    run = Pruned(known).train().close()
    chart = charts(known, run.id)["by-lr"]
    traces = [trace for trace in json.loads(chart.json)["data"] if trace["meta"] == {"arm": "adamw"}]
    trials = [t for t in known.every_trial(run.id) if t.arm == "adamw"]
    pruned = sorted(t.parameters["lr"] for t in trials if t.state is TrialState.PRUNED)
    [marks] = [
        trace
        for trace in traces
        if trace.get("yaxis") == "y2" and trace.get("marker", {}).get("symbol") == "circle-open"
    ]
    assert marks["x"] == pruned
    results = [x for trace in traces if trace.get("yaxis") != "y2" for x in trace["x"]]
    assert set(results) == {t.parameters["lr"] for t in trials if t.state is TrialState.COMPLETED}
    assert "pruned trials, AdamP 7 of 9; AdamW 7 of 9." in chart.caption
    assert [row[3] for row in chart.rows].count("pruned") == 14


def test_the_budget_chart_says_how_pruned_trials_count(known: Store) -> None:
    data = figure_data(known, Pruned(known).train().close().id)
    captions = {against: budget_charts(data, against)[0].caption for against in AGAINST}
    assert "14 pruned trials are not counted" in captions["trials"]
    assert "14 pruned trials count in epochs" in captions["epochs"]
    assert "14 pruned trials count in seconds" in captions["seconds"]


def test_the_longest_pruned_curves_are_drawn_faint_with_hollow_ends(known: Store) -> None:
    run = Pruned(known, arms=["adamw"], budget={"trials_per_arm": 27, "epochs": 9}).train().close()
    chart = charts(known, run.id)["validation-metric"]
    faint, best = json.loads(chart.json)["data"]
    assert (faint["opacity"], faint["marker"]["symbol"]) == (0.4, "square-open")
    assert best["line"]["width"] > faint["line"]["width"]
    pruned = [t for t in known.every_trial(run.id) if t.state is TrialState.PRUNED]
    furthest = sorted((t.epochs_done for t in pruned), reverse=True)[:12]
    assert sorted((size for size in faint["marker"]["size"] if size), reverse=True) == [6] * 12
    assert faint["x"].count(None) == 12
    assert sum(x is not None for x in faint["x"]) == sum(furthest)
    assert f"12 pruned trials of {len(pruned)}" in chart.caption
    assert all(row[0] == "AdamW" for row in chart.rows)
    assert len(chart.rows) == 9, "the table lists only the best trials"


def test_bad_pruned_trials_do_not_squeeze_the_axis_of_the_best(known: Store) -> None:
    run = Pruned(known, arms=["adamw"]).train().close()
    arms, trials = known.arms(run.id), known.every_trial(run.id)
    best = arms[0].best
    assert best is not None
    shown = known.measurements(best.trial_id)
    bad = tuple(m.model_copy(update={"validation_metric": 0.01, "train_loss": 80.0}) for m in shown[:1])
    data = FigureData(
        study=known.study(run.id),
        arms=arms,
        analysis=analyse(known.study_record(run.id)),
        trials=trials,
        best_runs={"adamw": shown},
        pruned_runs={"adamw": (bad, shown[:3])},
    )
    found = {chart.id: chart for group in study_charts(data) for chart in group.charts}
    values = [m.validation_metric for m in shown if m.validation_metric is not None]
    low, high = json.loads(found["validation-metric"].json)["layout"]["yaxis"]["range"]
    assert 0.01 < low < min(values) < max(values) < high < 1
    low, high = json.loads(found["train-loss"].json)["layout"]["yaxis"]["range"]
    losses = [math.log10(m.train_loss) for m in shown if m.train_loss is not None]
    assert low < min(losses) < max(losses) < high < math.log10(80)
    assert "1 ends outside the axis" in found["train-loss"].caption
