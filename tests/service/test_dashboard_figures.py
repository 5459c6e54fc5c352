import json
import time
from dataclasses import replace
from typing import Any

import plotly.graph_objects as go
import pytest
from catalogs import catalog
from trained_studies import Trained

from service.dashboard.figures import (
    Against,
    Chart,
    FigureData,
    budget_charts,
    confirmed_charts,
    layer_charts,
    layer_rows,
    study_charts,
    trial_charts,
    trial_layer_charts,
)
from service.dashboard.figures.axes import log_tick, whole_axis
from studies.analysis.analyse import analyse
from studies.analysis.views import BudgetPoint, RankFlip
from studies.states import TrialState
from studies.store import Store
from studies.trials import Measurement
from studies.views import TrialView


def data_of(store: Store, study_id: str) -> FigureData:
    record = store.study_record(study_id)
    return FigureData(
        study=record.study,
        arms=record.arms,
        trials=record.trials,
        analysis=analyse(record),
        best_runs={
            arm.name: record.measurements[arm.best.trial_id] for arm in record.arms if arm.best is not None
        },
    )


@pytest.fixture
def data(store: Store) -> FigureData:
    """Four arms of twelve trials, some of which diverged."""
    store.announce(catalog(), dispatcher="here")
    run = (
        Trained(
            store,
            arms=["adamp", "adamw", "sgdp", "stepper"],
            budget={"trials_per_arm": 12, "epochs": 4},
            width=4,
        )
        .train()
        .close()
    )
    return data_of(store, run.id)


@pytest.fixture
def confirmed(store: Store) -> FigureData:
    """The same with three fresh seeds for each arm's best and its defaults."""
    store.announce(catalog(), dispatcher="here")
    arms = ["adamp", "adamw", "sgdp", "stepper"]
    run = (
        Trained(
            store, arms=arms, budget={"trials_per_arm": 12, "epochs": 4}, confirmation={"seeds": 3}, width=4
        )
        .train()
        .confirm()
        .close()
    )
    return data_of(store, run.id)


def charts_of(data: FigureData) -> dict[str, Chart]:
    return {chart.id: chart for group in study_charts(data) for chart in group.charts}


def figure_of(chart: Chart) -> dict[str, Any]:
    return json.loads(chart.json)


def traces_of(chart: Chart, arm: str) -> list[dict[str, Any]]:
    return [trace for trace in figure_of(chart)["data"] if trace.get("meta") == {"arm": arm}]


def test_an_arm_without_confirmation_is_not_called_the_best_among_confirmed_arms(data: FigureData) -> None:
    last, *_ = sorted(data.arms, key=lambda arm: data.best_runs[arm.name][-1].validation_metric or 0.0)
    mixed = replace(data, seed_runs={last.name: (data.best_runs[last.name],)})
    caption = charts_of(mixed)["validation-metric"].caption
    assert f"at the end: {last.label}," in caption
    others = [arm.label for arm in data.arms if arm != last]
    assert all(label in caption.split("at the end")[1] for label in others), "they are named as not confirmed"


def test_plotly_knows_every_attribute_that_is_drawn(
    data: FigureData, confirmed: FigureData, store: Store
) -> None:
    trial = confirmed.trials[0]
    arm = next(arm for arm in confirmed.arms if arm.name == trial.arm)
    charts = [
        *(chart for each in (data, confirmed) for group in study_charts(each) for chart in group.charts),
        *(
            chart
            for against in ("trials", "epochs", "seconds")
            for chart in budget_charts(confirmed, against)
        ),
        *confirmed_charts(confirmed),
        *trial_charts(store.measurements(trial.id), arm=arm, card=confirmed.study.workload_card),
        *layer_charts(confirmed.arms, store.study_layers(confirmed.study.id).arms),
        *trial_layer_charts(arm, store.trial_layers(trial.id)),
    ]
    assert len(charts) > 12
    for chart in charts:
        # Plotly raises ValueError for unknown attributes.
        go.Figure(figure_of(chart))


@pytest.mark.parametrize(("against", "last"), [("trials", 12.0), ("epochs", None), ("seconds", None)])
def test_a_budget_curve_draws_the_analysis_up_to_the_full_budget(
    data: FigureData, against: Against, last: float | None
) -> None:
    [chart] = budget_charts(data, against)
    for curve in data.analysis.curves:
        line = next(trace for trace in traces_of(chart, curve.arm) if trace["mode"] == "lines+markers")
        points = [point for point in curve.points if point.value is not None]
        assert line["y"] == [point.value for point in points]
        assert line["line"]["shape"] == "hv", "the best so far of one search must be a step line"
        assert line["x"] == sorted(line["x"])
        assert last is None or line["x"][-1] == last
    assert not [trace for trace in figure_of(chart)["data"] if "fill" in trace]


def test_a_value_outside_the_axis_is_marked_at_its_edge_with_its_number(data: FigureData) -> None:
    first, *others = data.analysis.curves
    bad = first.points[0].model_copy(update={"value": 0.111})
    curves = (first.model_copy(update={"points": (bad, *first.points[1:])}), *others)
    changed = data.analysis.model_copy(update={"curves": curves})
    [chart] = budget_charts(replace(data, analysis=changed), "trials")
    low, _ = figure_of(chart)["layout"]["yaxis"]["range"]
    marked = {"arm": first.arm, "outside": True}
    [edge] = [trace for trace in figure_of(chart)["data"] if trace["meta"] == marked]
    assert (edge["x"][0], edge["y"][0]) == (bad.trials, low)
    assert edge["text"][0].startswith("11.10")
    assert "Triangles at the edge" in chart.caption


def test_a_band_is_drawn_only_if_the_analysis_has_one(data: FigureData) -> None:
    first, *others = data.analysis.curves
    banded = first.model_copy(
        update={
            "method": "expected best of k",
            "band": "95 % band, made up",
            "points": tuple(
                p.model_copy(update={"low": 0.8, "high": 0.99}) if p.trials < 3 else p for p in first.points
            ),
        }
    )
    [chart] = budget_charts(
        replace(data, analysis=data.analysis.model_copy(update={"curves": (banded, *others)})), "trials"
    )
    [band] = [trace for trace in figure_of(chart)["data"] if "fill" in trace]
    assert band["meta"] == {"arm": first.arm}
    assert set(band["y"]) == {0.99}
    assert band["fillcolor"] == "var(--arm-0-faint)"
    assert "Bands: 95 % band, made up." in chart.caption


def test_a_change_of_the_lead_is_named_with_its_budget(data: FigureData) -> None:
    changes = (
        RankFlip(trials=3, before="adamw", after="adamp"),
        RankFlip(trials=7, before="adamp", after="sgdp"),
    )
    [chart] = budget_charts(
        replace(data, analysis=data.analysis.model_copy(update={"flips": changes})), "trials"
    )
    assert "from 3 trials on AdamP instead of AdamW, from 7 trials on SGDP instead of AdamP" in chart.caption


def test_an_arm_leads_at_every_budget_only_if_no_other_is_ahead_at_any(data: FigureData) -> None:
    def caption(*values: tuple[float, ...]) -> str:
        curves = tuple(
            curve.model_copy(
                update={
                    "points": tuple(
                        BudgetPoint(trials=k + 1, epochs=k + 1, elapsed_s=k + 1, value=v, low=None, high=None)
                        for k, v in enumerate(arm_values)
                    )
                }
            )
            for curve, arm_values in zip(data.analysis.curves, values, strict=False)
        )
        changed = data.analysis.model_copy(update={"curves": curves, "flips": ()})
        [chart] = budget_charts(replace(data, analysis=changed), "trials")
        return chart.caption

    assert "AdamP leads at every budget" in caption((0.90, 0.95, 0.96), (0.80, 0.90, 0.95))
    assert "AdamP is level or ahead at every budget" in caption((0.90, 0.95, 0.96), (0.80, 0.95, 0.95))
    # The analysis passes over a change of the lead that is smaller than the noise of a run.
    assert "at every budget" not in caption((0.90, 0.95, 0.96), (0.91, 0.94, 0.95))


def test_no_interval_of_an_accuracy_reaches_above_100_percent(store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    # Two seeds have a wide interval, whose upper end would be above 100 %.
    budget = {"trials_per_arm": 8, "epochs": 3}
    run = Trained(store, width=8, seed=4, budget=budget, confirmation={"seeds": 2})
    [chart] = confirmed_charts(data_of(store, run.train().confirm().close().id))
    ends = [
        trace["x"][0] + trace["error_x"]["array"][0]
        for trace in figure_of(chart)["data"]
        if "error_x" in trace
    ]
    assert max(ends) == pytest.approx(1.0)


def test_every_confirmed_run_is_drawn_and_defaults_are_hollow(confirmed: FigureData) -> None:
    [chart] = confirmed_charts(confirmed)
    shown = [c for c in confirmed.analysis.confirmed if c.test_mean is not None]
    for arm in confirmed.arms:
        runs = sorted(
            x
            for trace in traces_of(chart, arm.name)
            if trace["marker"]["symbol"] == "line-ns-open"
            for x in trace["x"]
        )
        assert runs == sorted(
            run.test_value for c in shown if c.arm == arm.name for run in c.runs if run.test_value is not None
        )
        means = {
            trace["marker"]["symbol"].endswith("-open"): trace
            for trace in traces_of(chart, arm.name)
            if "error_x" in trace
        }
        best = next(c for c in shown if c.arm == arm.name and c.configuration == "best")
        assert best.test_mean is not None
        assert best.test_low is not None
        assert means[False]["x"] == [best.test_mean]
        assert means[False]["error_x"]["arrayminus"][0] == pytest.approx(best.test_mean - best.test_low)
        assert True not in means or means[True]["y"] > means[False]["y"], "the defaults must be below"
    names = figure_of(chart)["layout"]["yaxis"]["ticktext"]
    places = [rank.arm for rank in confirmed.analysis.ranks]
    assert [name.lower() for name in names] == places, "arms must be ordered by rank"
    assert len(chart.rows) == sum(len(c.runs) for c in shown)


def test_much_worse_defaults_do_not_squeeze_the_axis(confirmed: FigureData) -> None:
    [chart] = confirmed_charts(confirmed)
    low, high = figure_of(chart)["layout"]["xaxis"]["range"]
    best = [
        run.test_value
        for c in confirmed.analysis.confirmed
        if c.configuration == "best"
        for run in c.runs
        if run.test_value is not None
    ]
    assert low < min(best) < max(best) < high
    out = [c for c in confirmed.analysis.confirmed if c.test_mean is not None and c.test_mean < low]
    assert out
    assert "Outside the axis: " in chart.caption


def test_without_confirmation_runs_there_is_no_chart_of_them(data: FigureData) -> None:
    assert confirmed_charts(data) == ()


def test_replicates_are_drawn_side_by_side(store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    budget = {"trials_per_arm": 4, "epochs": 2, "replicates": 3}
    run = Trained(store, budget=budget, confirmation={"seeds": 2}).train().confirm().close()
    [chart] = confirmed_charts(data_of(store, run.id))
    means = [
        trace
        for trace in traces_of(chart, "adamp")
        if trace["mode"] == "markers" and trace["marker"]["symbol"] == "circle"
    ]
    assert len({trace["y"][0] for trace in means}) == len(means) > 1
    assert "replicates" in chart.caption


def test_every_trial_and_every_edge_is_in_the_lr_chart(data: FigureData) -> None:
    chart = charts_of(data)["by-lr"]
    assert chart.is_wide
    for arm in data.arms:
        trials = [t for t in data.trials if t.arm == arm.name]
        strip = [trace for trace in traces_of(chart, arm.name) if trace.get("yaxis") == "y2"]
        assert strip[0]["x"] == [1e-5, 1e-1]
        crosses = [x for trace in strip[1:] if trace["mode"] == "markers" for x in trace["x"]]
        assert sorted(crosses) == sorted(t.parameters["lr"] for t in trials if t.state is TrialState.DIVERGED)
        points = next(
            trace
            for trace in traces_of(chart, arm.name)
            if trace["mode"] == "markers" and trace.get("yaxis") != "y2"
        )
        assert sorted(points["x"]) == sorted(
            t.parameters["lr"] for t in trials if t.state is TrialState.COMPLETED
        )
    assert len(chart.rows) == len(data.trials)


def test_the_good_range_of_the_learning_rate_is_drawn_and_named(data: FigureData) -> None:
    chart = charts_of(data)["by-lr"]
    for one in data.analysis.sensitivity:
        assert one.good_range is not None
        [thick] = [trace for trace in traces_of(chart, one.arm) if trace.get("line", {}).get("width") == 7]
        assert thick["x"] == [one.good_range.low, one.good_range.high]
    assert "(10×)" in chart.caption


def test_the_line_of_an_arm_goes_through_the_best_of_each_bucket(data: FigureData) -> None:
    for arm in data.arms:
        assert arm.best is not None
        [line] = [
            t
            for t in traces_of(charts_of(data)["by-lr"], arm.name)
            if "lines" in t["mode"] and t.get("yaxis") != "y2"
        ]
        assert line["x"] == sorted(line["x"])
        assert arm.best.value in line["y"]
        assert len(line["x"]) <= 8


def test_choices_are_drawn_side_by_side_with_their_names(store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    choosing = {
        "optimizer": "stepper",
        "space": {"rule": {"choices": ["plain", "signed"]}, "k": {"choices": [2, 5, 9]}},
    }
    run = (
        Trained(
            store, arms=[choosing, {**choosing, "name": "again"}], budget={"trials_per_arm": 6, "epochs": 1}
        )
        .train()
        .close()
    )
    charts = charts_of(data_of(store, run.id))
    axis = figure_of(charts["by-rule"])["layout"]["xaxis"]
    assert axis["ticktext"] == ["plain", "signed"]
    places = {round(x) for trace in figure_of(charts["by-rule"])["data"] for x in trace["x"]}
    assert places == {0, 1}
    assert figure_of(charts["by-k"])["layout"]["xaxis"]["ticktext"] == ["2", "5", "9"]


def test_choices_of_one_arm_fit_on_anothers_range(store: Store) -> None:
    store.announce(catalog(), dispatcher="here")
    few = {
        "optimizer": "adamw",
        "name": "few",
        "space": {"lr": {"choices": [0.001, 0.01]}, "weight_decay": {"choices": [0.0, 0.1]}},
    }
    run = Trained(store, arms=["adamw", few], budget={"trials_per_arm": 4, "epochs": 1}).train().close()
    chart = charts_of(data_of(store, run.id))["by-lr"]
    assert figure_of(chart)["layout"]["xaxis"]["type"] == "log"
    assert {x for t in traces_of(chart, "few") for x in t["x"]} <= {0.001, 0.01}


def test_the_caption_counts_values_that_a_log_axis_cannot_show(data: FigureData) -> None:
    chart = charts_of(data)["by-weight-decay"]
    assert "1 trial at weight_decay = 0" in chart.caption
    assert ("AdamP", "0") in {row[:2] for row in chart.rows}


def test_worse_values_outside_the_axis_are_counted(data: FigureData) -> None:
    chart = charts_of(data)["by-lr"]
    low, high = figure_of(chart)["layout"]["yaxis"]["range"]
    out = [t for t in data.trials if t.value is not None and not low <= t.value <= high]
    assert out
    assert f"{len(out)} worse trials" in chart.caption
    assert max(t.value for t in data.trials if t.value is not None) <= high


def many(data: FigureData, times: int) -> FigureData:
    trials: list[TrialView] = []
    for n in range(times):
        factor = 1 + n / times / 10
        trials += [
            t.model_copy(
                update={
                    "number": 100 * n + t.number,
                    "parameters": {
                        k: v * factor if isinstance(v, float) else v for k, v in t.parameters.items()
                    },
                }
            )
            for t in data.trials
        ]
    return replace(data, trials=tuple(trials))


def test_above_2000_points_only_the_best_200_are_drawn_as_points(data: FigureData) -> None:
    thick = many(data, 60)
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
    for chart in charts_of(data_of(store, run.id)).values():
        assert "<" not in chart.json


def test_a_figure_has_no_theme_and_needs_no_inline_style(data: FigureData) -> None:
    for chart in charts_of(data).values():
        assert "#" not in chart.json, "colours must come from the style sheet"
        for tag in ("b", "sub", "sup", "span", "i"):
            assert f"\\u003c{tag}\\u003e" not in chart.json


def test_missing_measurements_leave_gaps_and_no_empty_charts(data: FigureData) -> None:
    arm = data.arms[0]
    run = data.best_runs[arm.name]
    gap = tuple(
        m.model_copy(update={"weight_norm": None, "train_loss": None if m.epoch == 2 else m.train_loss})
        for m in run
    )
    charts = {chart.id: chart for chart in trial_charts(gap, arm=arm, card=data.card)}
    assert "weight-norm" not in charts
    assert figure_of(charts["train-loss"])["data"][0]["y"][1] is None
    assert charts["train-loss"].rows[1] == ("2", "–")
    assert trial_charts((), arm=arm, card=data.card) == ()


@pytest.mark.parametrize("last", [1, 2, 7, 12, 40, 300, 12345])
def test_epochs_are_never_ticked_at_fractions(last: int) -> None:
    axis = whole_axis("epoch", last)
    assert isinstance(axis.tick, int)
    assert last / axis.tick <= 9


def test_log_axes_have_at_least_two_ticks_and_no_crowd() -> None:
    assert log_tick(1e-4, 1e-1) == 1
    assert log_tick(1e-6, 1.0) == 2
    assert log_tick(0.01, 0.1) == "D2"
    # Neither 1, 2 nor 5 times a power of ten lies between these.
    assert log_tick(0.21, 0.49) is None
    assert log_tick(0.055, 0.19) is None


def test_layers_are_drawn_for_all_arms_and_only_scale_invariant_ones_by_epoch(
    confirmed: FigureData, store: Store
) -> None:
    layers = store.study_layers(confirmed.study.id).arms
    charts = {chart.id: chart for chart in layer_charts(confirmed.arms, layers)}
    assert list(charts) == [
        "layers-growth-by-epoch",
        "layers-step-by-epoch",
        "layers-growth-by-layer",
        "layers-step-by-layer",
        "layers-projected-by-layer",
    ]
    for of in layers:
        assert of.is_scale_invariant == (True, False)
        [line] = traces_of(charts["layers-growth-by-epoch"], of.arm)
        assert line["y"] == [m.growth[0] for m in of.epochs]
        [dots] = traces_of(charts["layers-growth-by-layer"], of.arm)
        assert dots["x"] == list(of.epochs[-1].growth)
        assert len(traces_of(charts["layers-projected-by-layer"], of.arm)) == (
            2 if of.arm.endswith("p") else 0
        )
    assert figure_of(charts["layers-step-by-layer"])["layout"]["yaxis"]["ticktext"] == [
        "0.weight *",
        "4.weight",
    ]
    assert layer_charts(confirmed.arms, ()) == ()


def test_captions_of_layers_say_at_the_end_of_which_epoch_or_over_which(
    confirmed: FigureData, store: Store
) -> None:
    layers = store.study_layers(confirmed.study.id).arms
    last = layers[0].epochs[-1].epoch
    captions = {chart.id: chart.caption for chart in layer_charts(confirmed.arms, layers)}
    assert f"At the end of epoch {last}: " in captions["layers-growth-by-epoch"]
    assert f"In epoch {last}: " in captions["layers-step-by-epoch"]
    assert "over the probed steps of all epochs" in captions["layers-step-by-layer"]
    behind = layers[0].model_copy(update={"epochs": layers[0].epochs[:-1]})
    [growth, *_] = layer_charts(confirmed.arms, (behind, *layers[1:]))
    assert f"At the end of the last epoch that each arm has measured (AdamP {last - 1}; " in growth.caption
    many = behind.model_copy(
        update={
            "names": tuple(f"{n}.weight" for n in range(300)),
            "is_scale_invariant": (True,) * 300,
            "epochs": tuple(
                m.model_copy(
                    update={
                        name: getattr(m, name)[:1] * 300 for name in type(m).model_fields if name != "epoch"
                    }
                )
                for m in behind.epochs
            ),
        }
    )
    by_layer = layer_charts(confirmed.arms, (many,))[-1]
    assert len(by_layer.rows) == 200
    assert "the first 64 of 300 layers, the table the first 200" in by_layer.caption


def test_a_trial_has_a_line_and_a_row_of_each_layer(confirmed: FigureData, store: Store) -> None:
    arm = confirmed.arms[0]
    layers = store.trial_layers(f"{confirmed.study.id}.{arm.name}.0")
    growth, *_ = trial_layer_charts(arm, layers)
    assert [trace["line"]["dash"] for trace in figure_of(growth)["data"]] == ["solid", "dot"]
    assert figure_of(growth)["data"][0]["x"][-1] == layers.epochs[-1].epoch
    rows = layer_rows(layers)
    assert [(row[0], row[1]) for row in rows] == [("0.weight", "yes"), ("4.weight", "no")]
    long = layers.model_copy(
        update={"epochs": tuple(layers.epochs[0].model_copy(update={"epoch": n}) for n in range(1, 102))}
    )
    [line, _] = figure_of(trial_layer_charts(arm, long)[0])["data"]
    assert len(line["x"]) <= 40
    assert line["x"][-1] == 101
    nothing = store.trial_layers(f"{confirmed.study.id}.{arm.name}.1")
    assert (layer_rows(nothing), trial_layer_charts(arm, nothing)) == ((), ())


def test_a_learning_curve_is_the_mean_over_seeds_with_a_band_over_them(confirmed: FigureData) -> None:
    arm = confirmed.arms[0]
    values = (0.5, 0.7), (0.6, 0.9)
    runs = tuple(
        tuple(
            Measurement(epoch=e + 1, elapsed_s=2.0 * (e + 1), validation_metric=value)
            for e, value in enumerate(run)
        )
        for run in values
    )
    chart = charts_of(replace(confirmed, seed_runs={arm.name: runs}))["validation-metric"]
    low, high, line = traces_of(chart, arm.name)
    assert (low["y"], high["y"]) == ([0.5, 0.7], [0.6, 0.9])
    assert line["y"] == pytest.approx([0.55, 0.8])
    assert line["customdata"] == [2.0, 4.0], "the page needs the seconds of each epoch"
    # 1000 examples in batches of 32.
    assert figure_of(chart)["layout"]["meta"] == {"steps": {a.name: 32 for a in confirmed.arms}}
    assert chart.rows[1][:4] == (arm.label, "2", "64", "4.00\N{NO-BREAK SPACE}s")
