"""What a study's page shows, gathered from the store: the whole page at first, then only what has changed."""

__all__ = ["TrialQuery", "study_html", "study_update_html"]

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated, Any

from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.dashboard.captions import headline, ranked
from service.dashboard.cautions import cautions
from service.dashboard.figures import ChartGroup, StudyRecord, furthest_pruned, study_charts
from service.dashboard.packing import fit_said
from service.dashboard.pruning import epochs_said, pruner_said, rungs_of
from service.dashboard.rendering import address, render
from service.dashboard.situation import is_attended, situation
from studies.pruner import NoPruner
from studies.space import Fixed, Parameters
from studies.states import CLOSED_STUDY_STATES, StudyState, TrialFilter
from studies.store import Store
from studies.views import ArmView, StudyView, TrialView

_TRIALS_PER_PAGE = 25

OUT_OF_BAND = Markup(' hx-swap-oob="true"')


def _none_if_empty(value: object) -> object:
    # A form sends "all" as an empty text.
    return None if value == "" else value


class TrialQuery(BaseModel):
    """Which trials the table shows."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    arm: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=64)
    state: Annotated[TrialFilter | None, BeforeValidator(_none_if_empty)] = None
    order: str = Field(default="value", max_length=16)
    page_token: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=512)


@dataclass(frozen=True)
class _Seen:
    """What of a study a page has shown: enough to tell that nothing has changed, at the price of one read.

    Attributes:
        study: changes with anything that the page shows.
        rungs: changes with who came to the rungs.
        figures: changes with what its figures are drawn from.
    """

    study: str
    rungs: str
    figures: str

    @classmethod
    def of(cls, study: StudyView, *, has_dispatcher: bool) -> "_Seen":
        p = study.progress
        # Figures of thousands of trials take their time: at most some 200 times in a study's life, and once it is closed.
        step = math.ceil(p.trials / 200)
        drawn = p.finished if p.finished < step or study.state in CLOSED_STUDY_STATES else p.finished // step * step
        come = f"{p.epochs_done // math.ceil(p.epochs / 400)}-{drawn}"
        # A promotion changes nothing but how many wait.
        return cls(f"{study.version}-{p.finished}-{p.running}-{p.epochs_done}-{p.waiting}-{has_dispatcher:d}", come, f"{drawn}")

    def __str__(self) -> str:
        return f"{self.study}.{self.rungs}.{self.figures}"


def study_html(store: Store, study_id: str, query: TrialQuery) -> str:
    """Return a study's page.

    Raises:
        StudyNotFound, ArmNotFound: there is none.
        SpecInvalid: an unknown order or page token.
    """
    study = store.study(study_id)
    arms = store.arms(study_id)
    trials = store.every_trial(study_id)
    return render(
        "study.html",
        **_context(store, study, arms, query),
        groups=_groups(store, study, arms, trials),
        rungs=rungs_of(study, arms, trials),
        has_charts=True,
        json_url=f"/v1/studies/{study_id}",
        more_json=[f"/v1/studies/{study_id}/{part}" for part in ("arms", "curves", "trials", "events")],
        spec_json=study.spec.model_dump_json(indent=2),
        trial_states=[asked.value for asked in TrialFilter if asked is not TrialFilter.WAITING or not isinstance(study.spec.pruner, NoPruner)],
    )


def study_update_html(store: Store, study_id: str, query: TrialQuery, *, seen: str) -> str | None:
    """Return what has changed of a study's page since `seen`, or None when nothing has; figures only when a trial has finished.

    Raises:
        StudyNotFound, ArmNotFound, SpecInvalid: as for the page.
    """
    study = store.study(study_id)
    now = _Seen.of(study, has_dispatcher=_has_dispatcher(store, study))
    if seen == str(now):
        return None
    arms = store.arms(study_id)
    _, rungs_seen, figures_seen = ("", "", *seen.split("."))[-3:]
    is_redrawn = figures_seen != now.figures
    has_come = is_redrawn or (rungs_seen != now.rungs and not isinstance(study.spec.pruner, NoPruner))
    trials = store.every_trial(study_id) if has_come else ()
    return render(
        "study/update.html",
        **_context(store, study, arms, query),
        groups=_groups(store, study, arms, trials) if is_redrawn else (),
        rungs=rungs_of(study, arms, trials),
        has_come=has_come,
        is_redrawn=is_redrawn,
        oob=OUT_OF_BAND,
    )


def _has_dispatcher(store: Store, study: StudyView) -> bool:
    """Return whether a dispatcher lives, as far as this study's page wants to know: only while it waits for one."""
    return study.state is not StudyState.QUEUED or is_attended(store.dispatchers(), datetime.now(UTC))


def _context(store: Store, study: StudyView, arms: Sequence[ArmView], query: TrialQuery) -> dict[str, Any]:
    has_dispatcher = _has_dispatcher(store, study)
    # Trials go on finishing while a study is paused, so only a closed one is done with.
    is_live = study.state not in CLOSED_STUDY_STATES
    seen = _Seen.of(study, has_dispatcher=has_dispatcher)
    by_rank = [arm for arm, _ in ranked(arms, study.workload_card)]
    asked = query.model_dump(mode="json")
    return {
        "study": study,
        "arms": arms,
        "arms_by_name": {arm.name: arm for arm in arms},
        "ranked_arms": [*by_rank, *(arm for arm in arms if arm.best is None)],
        "situation": situation(study, has_dispatcher=has_dispatcher),
        "headline": headline(study, arms),
        "cautions": cautions(study, arms),
        "pruner_said": pruner_said(study),
        "epochs_said": epochs_said(study, arms),
        "fits_said": {arm.name: fit_said(arm.fit) for arm in arms},
        "has_rungs": not isinstance(study.spec.pruner, NoPruner),
        "elapsed": None if study.started_at is None else ((study.ended_at or datetime.now(UTC)) - study.started_at).total_seconds(),
        "trials": store.trials(
            study.id, arm=query.arm, state=query.state, order=query.order, page_size=_TRIALS_PER_PAGE, page_token=query.page_token
        ),
        "query": query,
        "searched": _searched,
        "shown_parameters": _of_best,
        "is_live": is_live,
        "live_url": address(f"/studies/{study.id}/live", **asked, seen=seen) if is_live else None,
    }


def _searched(arm: ArmView, parameters: Parameters) -> Parameters:
    """Return what tells one trial of an arm from another: lr, and all that is not fixed."""
    return {name: value for name, value in parameters.items() if name == "lr" or not isinstance(arm.space.get(name), Fixed)}


def _of_best(arm: ArmView) -> Parameters:
    assert arm.best is not None, "asked only of arms with a best"
    return _searched(arm, arm.best.parameters)


def _groups(store: Store, study: StudyView, arms: Sequence[ArmView], trials: Sequence[TrialView]) -> tuple[ChartGroup, ...]:
    if study.progress.finished == 0:
        return ()
    return study_charts(
        StudyRecord(
            study=study,
            arms=tuple(arms),
            curves=store.curves(study.id),
            trials=tuple(trials),
            best_runs={arm.name: store.measurements(arm.best.trial_id) for arm in arms if arm.best is not None},
            pruned_runs={arm.name: tuple(store.measurements(t.id) for t in furthest_pruned(trials, arm, arms=len(arms))) for arm in arms},
        )
    )
