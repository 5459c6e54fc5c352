"""The page that shows several trials side by side: their configurations, their results and their curves."""

__all__ = ["trials_comparison_html"]

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from service.dashboard.figures import side_by_side_charts
from service.dashboard.figures.chart import ChartArm
from service.dashboard.figures.seed_bands import ArmRuns, steps_of_epoch
from service.dashboard.rendering import render
from service.dashboard.side_by_side import rows_of_configurations
from studies.arm_styles import style_numbers
from studies.errors import SpecInvalid, SpecProblem
from studies.formatting import ABSENT, duration, metric
from studies.store import Store
from studies.views import ArmView, StudyView, TrialView

_MOST: Final = 16


def trials_comparison_html(store: Store, trial_ids: Sequence[str]) -> str:
    """Return the comparison of these trials, of one study or of several.

    Raises:
        TrialNotFound: one of them does not exist.
        SpecInvalid: there are fewer than two or more than 16.
    """
    ids = tuple(dict.fromkeys(trial_ids))
    if not 2 <= len(ids) <= _MOST:
        raise SpecInvalid(
            [
                SpecProblem(
                    "/trial",
                    f"expected 2 to {_MOST} different trials to compare, got {len(ids)}; select them in the "
                    "table of trials of a study",
                )
            ]
        )
    trials = [store.trial(trial_id) for trial_id in ids]
    studies = {trial.study_id: store.study(trial.study_id) for trial in trials}
    arms = {(study_id, arm.name): arm for study_id in studies for arm in store.arms(study_id)}
    of_trials = [arms[trial.study_id, trial.arm] for trial in trials]
    styles = style_numbers([arm.optimizer.name for arm in of_trials])
    shown = [
        ChartArm(trial.id, _label(trial, arm, studies), position, style)
        for position, (trial, arm, style) in enumerate(zip(trials, of_trials, styles, strict=True))
    ]
    measured = store.measurements_of(ids)
    cards = [studies[trial.study_id].workload_card for trial in trials]
    charts = (
        side_by_side_charts(
            [
                ArmRuns(arm, (measured[trial.id],), steps_of_epoch(studies[trial.study_id], trial.parameters))
                for arm, trial in zip(shown, trials, strict=True)
                if measured.get(trial.id)
            ],
            cards[0],
        )
        if len({(card.name, card.metric) for card in cards}) == 1
        else ()
    )
    return render(
        "compare_trials.html",
        trials=list(zip(shown, trials, strict=True)),
        studies=studies,
        results=_results(trials, studies),
        parameters=rows_of_configurations(
            [(trial.parameters, arm.defaults) for trial, arm in zip(trials, of_trials, strict=True)]
        ),
        charts=charts,
        has_charts=bool(charts),
        json_url=f"/v1/trials/{ids[0]}",
        more_json=[f"/v1/trials/{trial_id}" for trial_id in ids[1:]],
    )


def _label(trial: TrialView, arm: ArmView, studies: Mapping[str, StudyView]) -> str:
    run = f"{arm.label} {'c' if trial.phase == 'confirmation' else ''}{trial.number}"
    return run if len(studies) == 1 else f"{run} ({trial.study_id})"


def _results(
    trials: Sequence[TrialView], studies: Mapping[str, StudyView]
) -> list[tuple[str, list[str], bool]]:
    """Return (what, one text for each trial, whether they differ)."""

    def of(trial: TrialView, value: float | None) -> str:
        return metric(value, studies[trial.study_id].workload_card.unit)

    rows: list[tuple[str, Callable[[TrialView], str]]] = [
        ("State", lambda t: t.state.value),
        ("Validation", lambda t: of(t, t.value)),
        ("Test", lambda t: of(t, t.test_value)),
        ("Epochs", lambda t: f"{t.epochs_done} of {studies[t.study_id].epochs}"),
        ("Seed", lambda t: str(t.seed)),
        ("Training time", lambda t: duration(t.cost_s)),
        ("Reason", lambda t: t.reason or ABSENT),
    ]
    written = [(name, [write(trial) for trial in trials]) for name, write in rows]
    return [(name, texts, len(set(texts)) > 1) for name, texts in written]
