import json
import time
from typing import Any

import pytest
from catalogs import catalog
from trained_studies import Trained

from service.dashboard.figures import Chart, StudyRecord, study_charts, trial_charts
from service.dashboard.figures.axes import log_tick, whole_axis
from studies.states import TrialState
from studies.store import Store
from studies.views import TrialView


def record_of(store: Store, study_id: str) -> StudyRecord:
    arms = store.arms(study_id)
    return StudyRecord(
        study=store.study(study_id),
        arms=arms,
        curves=store.curves(study_id),
        trials=store.every_trial(study_id),
        best_runs={arm.name: store.measurements(arm.best.trial_id) for arm in arms if arm.best is not None},
    )


@pytest.fixture
def record(store: Store) -> StudyRecord:
    """Four arms of twelve trials, some of which diverged."""
    store.announce(catalog(), dispatcher="here")
    run = Trained(store, arms=["adamp", "adamw", "sgdp", "stepper"], budget={"trials_per_arm": 12, "epochs": 4}, width=4).train().close()
    return record_of(store, run.id)


def charts_of(record: StudyRecord) -> dict[str, Chart]:
    return {chart.id: chart for group in study_charts(record) for chart in group.charts}


def figure_of(chart: Chart) -> dict[str, Any]:
    return json.loads(chart.json)


def traces_of(chart: Chart, arm: str) -> list[dict[str, Any]]:
    return [trace for trace in figure_of(chart)["data"] if trace.get("meta") == {"arm": arm}]


def test_best_so_far_is_a_stair_that_ends_at_each_arms_best(record: StudyRecord) -> None:
    charts = charts_of(record)
    for arm, curve in zip(record.arms, record.curves, strict=True):
        assert arm.best is not None
        [trace] = traces_of(charts["best-by-trials"], arm.name)
        assert trace["line"]["shape"] == "hv"
        assert (trace["x"][-1], trace["y"][-1]) == (len(curve.points), arm.best.value)
        [trace] = traces_of(charts["best-by-seconds"], arm.name)
        assert trace["x"][-1] == pytest.approx(curve.points[-1].elapsed_s)


def test_every_trial_and_every_edge_is_in_the_lr_chart(record: StudyRecord) -> None:
    chart = charts_of(record)["by-lr"]
    assert chart.is_wide
    for arm in record.arms:
        mine = [t for t in record.trials if t.arm == arm.name]
        strip = [trace for trace in traces_of(chart, arm.name) if trace.get("yaxis") == "y2"]
        assert strip[0]["x"] == [1e-5, 1e-1]
        crosses = [x for trace in strip[1:] for x in trace["x"]]
        assert sorted(crosses) == sorted(t.parameters["lr"] for t in mine if t.state is TrialState.DIVERGED)
        points = next(trace for trace in traces_of(chart, arm.name) if trace["mode"] == "markers" and trace.get("yaxis") != "y2")
        assert sorted(points["x"]) == sorted(t.parameters["lr"] for t in mine if t.state is TrialState.COMPLETED)
    assert len(chart.rows) == len(record.trials)


def test_the_line_of_an_arm_goes_through_the_best_of_each_bucket(record: StudyRecord) -> None:
    for arm in record.arms:
        assert arm.best is not None
        [line] = [t for t in traces_of(charts_of(record)["by-lr"], arm.name) if "lines" in t["mode"] and t.get("yaxis") != "y2"]
        assert line["x"] == sorted(line["x"])
        assert arm.best.value in line["y"]
        assert len(line["x"]) <= 8


def test_choices_stand_side_by_side_with_their_names(store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    choosing = {"optimizer": "stepper", "space": {"rule": {"choices": ["plain", "signed"]}, "k": {"choices": [2, 5, 9]}}}
    run = Trained(store, arms=[choosing, {**choosing, "name": "again"}], budget={"trials_per_arm": 6, "epochs": 1}).train().close()
    charts = charts_of(record_of(store, run.id))
    axis = figure_of(charts["by-rule"])["layout"]["xaxis"]
    assert axis["ticktext"] == ["plain", "signed"]
    places = {round(x) for trace in figure_of(charts["by-rule"])["data"] for x in trace["x"]}
    assert places == {0, 1}
    assert figure_of(charts["by-k"])["layout"]["xaxis"]["ticktext"] == ["2", "5", "9"]


def test_choices_of_one_arm_fit_on_anothers_range(store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    few = {"optimizer": "adamw", "name": "few", "space": {"lr": {"choices": [0.001, 0.01]}, "weight_decay": {"choices": [0.0, 0.1]}}}
    run = Trained(store, arms=["adamw", few], budget={"trials_per_arm": 4, "epochs": 1}).train().close()
    chart = charts_of(record_of(store, run.id))["by-lr"]
    assert figure_of(chart)["layout"]["xaxis"]["type"] == "log"
    assert {x for t in traces_of(chart, "few") for x in t["x"]} <= {0.001, 0.01}


def test_what_a_log_axis_cannot_show_is_said(record: StudyRecord) -> None:
    chart = charts_of(record)["by-weight-decay"]
    assert "at weight_decay = 0 cannot stand on a log axis" in chart.caption
    assert ("AdamP", "0") in {row[:2] for row in chart.rows}


def test_worse_values_outside_the_axis_are_counted(record: StudyRecord) -> None:
    chart = charts_of(record)["by-lr"]
    low, high = figure_of(chart)["layout"]["yaxis"]["range"]
    out = [t for t in record.trials if t.value is not None and not low <= t.value <= high]
    assert out
    assert f"{len(out)} worse trials lie outside the axis." in chart.caption
    assert max(t.value for t in record.trials if t.value is not None) <= high


def many(record: StudyRecord, times: int) -> StudyRecord:
    trials: list[TrialView] = []
    for n in range(times):
        factor = 1 + n / times / 10
        trials += [
            t.model_copy(update={"parameters": {k: v * factor if isinstance(v, float) else v for k, v in t.parameters.items()}})
            for t in record.trials
        ]
    return StudyRecord(study=record.study, arms=record.arms, curves=record.curves, trials=tuple(trials), best_runs=record.best_runs)


def test_above_2000_points_only_the_best_200_stand_alone_and_the_caption_says_so(record: StudyRecord) -> None:
    thick = many(record, 60)
    begun = time.perf_counter()
    chart = charts_of(thick)["by-lr"]
    assert time.perf_counter() - begun < 5
    figure = figure_of(chart)
    alone = [x for t in figure["data"] if t.get("opacity") == 0.55 for x in t["x"]]
    assert len(alone) == 200
    [density] = [t for t in figure["data"] if "meta" not in t]
    completed = sum(t.state is TrialState.COMPLETED for t in thick.trials)
    assert sum(density["customdata"]) == completed
    assert f"{completed:,} trials" in chart.caption
    assert len(chart.rows) == 200
    assert sum(len(t["x"]) for t in figure["data"]) < 2000


def test_a_figure_cannot_end_its_script_element(store: Store) -> None:
    cards = catalog()
    evil = cards.optimizers["adamw"].model_copy(update={"title": "</script><b>"})
    store.announce(cards.model_copy(update={"optimizers": {"adamw": evil}}), dispatcher="here")
    run = Trained(store, arms=["adamw"]).train().close()
    for chart in charts_of(record_of(store, run.id)).values():
        assert "<" not in chart.json


def test_a_figure_knows_no_theme_and_needs_no_inline_style(record: StudyRecord) -> None:
    for chart in charts_of(record).values():
        assert "#" not in chart.json, "colours are the style sheet's"
        for tag in ("b", "sub", "sup", "span", "i"):
            assert f"\\u003c{tag}\\u003e" not in chart.json


def test_measurements_that_are_missing_leave_gaps_and_no_charts_of_nothing(record: StudyRecord) -> None:
    arm = record.arms[0]
    run = record.best_runs[arm.name]
    gap = tuple(m.model_copy(update={"weight_norm": None, "train_loss": None if m.epoch == 2 else m.train_loss}) for m in run)
    charts = {chart.id: chart for chart in trial_charts(gap, arm=arm, card=record.card)}
    assert "weight-norm" not in charts
    assert figure_of(charts["train-loss"])["data"][0]["y"][1] is None
    assert charts["train-loss"].rows[1] == ("2", "–")
    assert trial_charts((), arm=arm, card=record.card) == ()


@pytest.mark.parametrize("last", [1, 2, 7, 12, 40, 300, 12345])
def test_epochs_are_never_ticked_at_fractions(last: int) -> None:
    axis = whole_axis("epoch", last)
    assert isinstance(axis.tick, int)
    assert last / axis.tick <= 9


def test_log_axes_have_at_least_two_ticks_and_no_crowd() -> None:
    assert log_tick(1e-4, 1e-1) == 1
    assert log_tick(1e-6, 1.0) == 2
    assert log_tick(0.01, 0.1) == "D2"
    assert log_tick(0.09, 0.1) is None
