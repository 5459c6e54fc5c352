"""The page of a study: the whole page, or only what has changed."""

__all__ = ["OUT_OF_BAND", "StudyPageQuery", "study_html", "study_update_html"]

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any

from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.analysis_cache import AnalysisCache
from service.analysis_pool import Timed
from service.dashboard.figures import (
    Against,
    FigureData,
    budget_charts,
    confirmed_charts,
    furthest_pruned,
    study_charts,
)
from service.dashboard.leader_text import ranked
from service.dashboard.pack_text import describe_stacking
from service.dashboard.pruning import describe_epochs, rung_table
from service.dashboard.rendering import address, render
from service.dashboard.status_text import describe_status
from service.dashboard.tables import tables_of
from service.dispatcher_health import DispatcherHealth
from service.pruner_text import describe_pruner
from studies.actors import Actor, may_change, may_submit
from studies.analysis.views import StudyAnalysis
from studies.pruner import NoPruner
from studies.space import Fixed, Parameters
from studies.states import CLOSED_STUDY_STATES, StudyState, TrialFilter
from studies.store import Store
from studies.trials import Phase
from studies.views import ArmView, StudyView

_TRIALS_PER_PAGE = 25

OUT_OF_BAND = Markup(' hx-swap-oob="true"')


def _none_if_empty(value: object) -> object:
    # A form sends "all" as an empty value.
    return None if value == "" else value


class StudyPageQuery(BaseModel):
    """The query of a study's page: the filter and order of its trials, and the unit of the budget chart."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    phase: Phase = "search"
    arm: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=64)
    state: Annotated[TrialFilter | None, BeforeValidator(_none_if_empty)] = None
    order: str = Field(default="value", max_length=16)
    page_token: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=512)
    against: Against = "trials"

    def address(self, path: str, **changes: object) -> str:
        """Return the address of a path with this query and some changes; default values are left out."""
        query = self.model_dump(mode="json") | changes
        default = StudyPageQuery().model_dump(mode="json")
        return address(path, **{name: value for name, value in query.items() if value != default.get(name)})


@dataclass(frozen=True)
class _PageVersion:
    """The version of a study that a page shows, so that an update costs one read if nothing has changed.

    Attributes:
        study: changes with anything on the page.
        rungs: changes with the table of rungs.
        evidence: changes with the analysis and its figures.
    """

    study: str
    rungs: str
    evidence: str

    @classmethod
    def of(cls, study: StudyView, *, outage: str | None) -> "_PageVersion":
        p = study.progress
        # Figures of thousands of trials are slow to draw: draw them at most about 200 times in a study's
        # life, and once when it closes.
        is_closed = study.state in CLOSED_STUDY_STATES
        step, runs = math.ceil(p.trials / 200), math.ceil(p.confirmations / 50) or 1
        drawn = p.finished if p.finished < step or is_closed else p.finished // step * step
        confirmed = p.confirmations_finished if is_closed else p.confirmations_finished // runs * runs
        rungs = f"{p.epochs_done // math.ceil(p.epochs / 400)}-{drawn}"
        # A promotion changes only how many trials wait.
        now = (
            study.version,
            p.finished,
            p.running,
            p.epochs_done,
            p.waiting,
            p.confirmations_finished,
            p.confirmations_running,
            "" if outage is None else f"{zlib.crc32(outage.encode()):x}",
        )
        # The verdict also depends on the state, and on whether the first trials train already.
        has_begun = p.finished + p.running > 0
        return cls("-".join(map(str, now)), rungs, f"{drawn}-{confirmed}-{study.state.value}-{has_begun:d}")

    def __str__(self) -> str:
        return f"{self.study}.{self.rungs}.{self.evidence}"


def study_html(
    store: Store, analyses: AnalysisCache, study_id: str, query: StudyPageQuery, *, reader: Actor
) -> str:
    """Return a study's page, with buttons only for what this reader may do.

    Raises:
        StudyNotFound, ArmNotFound: the study or the arm of the query does not exist.
        SpecInvalid: the order or page token is not valid.
    """
    # The evidence first, so that the study has every arm of the analysis, even one added in between.
    evidence = _evidence(analyses, study_id, query.against)
    study, arms = store.study(study_id), store.arms(study_id)
    return render(
        "study.html",
        **_context(store, study, arms, query, reader),
        **evidence,
        has_charts=True,
        json_url=f"/v1/studies/{study_id}",
        more_json=[f"/v1/studies/{study_id}/{part}" for part in ("analysis", "arms", "trials", "events")],
        spec_json=study.spec.model_dump_json(indent=2),
        trial_states=[
            state.value
            for state in TrialFilter
            if state is not TrialFilter.WAITING or not isinstance(study.spec.pruner, NoPruner)
        ],
    )


def study_update_html(
    store: Store, analyses: AnalysisCache, study_id: str, query: StudyPageQuery, *, reader: Actor, seen: str
) -> str | None:
    """Return the changed parts of a study's page, or None if nothing has changed since version `seen`.

    The analysis and its figures are redrawn only after a trial has finished or the study has changed state.

    Raises:
        StudyNotFound, ArmNotFound, SpecInvalid: as for the page.
    """
    study = store.study(study_id)
    now = _PageVersion.of(study, outage=_outage(store, study))
    if seen == str(now):
        return None
    arms = store.arms(study_id)
    _, rungs_seen, evidence_seen = ("", "", *seen.split("."))[-3:]
    is_redrawn = evidence_seen != now.evidence
    has_new_rungs = is_redrawn or (rungs_seen != now.rungs and not isinstance(study.spec.pruner, NoPruner))
    shown = _evidence(analyses, study_id, query.against) if is_redrawn else {"rungs": None}
    if has_new_rungs and not is_redrawn:
        shown = {"rungs": rung_table(study, arms, store.every_trial(study_id))}
    return render(
        "study/update.html",
        **_context(store, study, arms, query, reader),
        **shown,
        has_new_rungs=has_new_rungs,
        is_redrawn=is_redrawn,
        oob=OUT_OF_BAND,
    )


def _evidence(analyses: AnalysisCache, study_id: str, against: Against) -> dict[str, Any]:
    """Return the slow parts of a page, computed once for all readers."""

    def draw() -> Timed[dict[str, Any]]:
        # The analysis first, so that the record has every arm of it, even one added in between.
        return analyses.compute(partial(_draw_evidence, analyses.study(study_id), against))

    return analyses.get(("page", study_id, against), (study_id,), draw)


def _draw_evidence(analysis: StudyAnalysis, against: Against, store: Store) -> dict[str, Any]:
    """Return the analysis, its tables, and the figures."""
    record = store.study_record(analysis.study_id)
    pruned = {arm.name: furthest_pruned(record.trials, arm, arms=len(record.arms)) for arm in record.arms}
    data = FigureData(
        study=record.study,
        arms=record.arms,
        trials=record.trials,
        analysis=analysis,
        best_runs={
            arm.name: record.measurements.get(arm.best.trial_id, ())
            for arm in record.arms
            if arm.best is not None
        },
        pruned_runs={name: tuple(store.measurements(t.id) for t in some) for name, some in pruned.items()},
    )
    has_results = record.study.progress.finished > 0
    return {
        "analysis": analysis,
        "tables": tables_of(analysis, record.arms),
        "confirmed_charts": confirmed_charts(data),
        "budget_charts": budget_charts(data, against) if has_results else (),
        "groups": study_charts(data) if has_results else (),
        "rungs": rung_table(record.study, record.arms, record.trials),
    }


def _outage(store: Store, study: StudyView) -> str | None:
    """Return why no dispatcher can run a study; None if one can, or if the study does not wait for one."""
    p = study.progress
    if study.state not in {StudyState.QUEUED, StudyState.RUNNING} or p.running + p.confirmations_running:
        return None
    return DispatcherHealth.of(store.dispatchers()).outage


def _context(
    store: Store, study: StudyView, arms: Sequence[ArmView], query: StudyPageQuery, reader: Actor
) -> dict[str, Any]:
    verbs = study.verbs if may_change(reader, study.owner) else ()
    outage = _outage(store, study)
    # Trials still finish while a study is paused, so the page is live until the study is closed.
    is_live = study.state not in CLOSED_STUDY_STATES
    names = {arm.name for arm in arms}
    more = (
        [card for card in store.catalog().optimizers.values() if card.name not in names]
        if "extend" in verbs
        else []
    )
    return {
        "study": study,
        "verbs": verbs,
        "may_submit": may_submit(reader),
        "arms": arms,
        "arms_by_name": {arm.name: arm for arm in arms},
        "ranked_arms": [
            *ranked(arms, study.workload_card),
            *((arm, None) for arm in arms if arm.best is None),
        ],
        "status": describe_status(study, outage=outage),
        "pruner_text": describe_pruner(study),
        "epochs_text": describe_epochs(study, arms),
        "stacking": {arm.name: describe_stacking(arm.fit) for arm in arms},
        "has_rungs": not isinstance(study.spec.pruner, NoPruner),
        "elapsed": None
        if study.started_at is None
        else ((study.ended_at or datetime.now(UTC)) - study.started_at).total_seconds(),
        "trials": store.trials(
            study.id,
            phase=query.phase,
            arm=query.arm,
            state=query.state,
            order=query.order,
            page_size=_TRIALS_PER_PAGE,
            page_token=query.page_token,
        ),
        "query": query,
        "shown_with": partial(query.address, f"/studies/{study.id}"),
        "more_optimizers": more,
        "searched": _searched,
        "is_live": is_live,
        "live_url": query.address(f"/studies/{study.id}/live", seen=_PageVersion.of(study, outage=outage))
        if is_live
        else None,
    }


def _searched(arm: ArmView, parameters: Parameters) -> Parameters:
    """Return the parameters that differ between trials of an arm: lr, and all that are not fixed."""
    return {
        name: value
        for name, value in parameters.items()
        if name == "lr" or not isinstance(arm.space.get(name), Fixed)
    }
