"""The page of a study: the whole page, or only what has changed."""

__all__ = ["OUT_OF_BAND", "StudyPageQuery", "study_html", "study_update_html"]

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from typing import Annotated, Any, Final

from markupsafe import Markup
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

from service.analysis_cache import AnalysisCache
from service.analysis_pool import Timed
from service.budget_differences import has_budget_verdict
from service.cache_entry import Aged, Key
from service.dashboard.figures import (
    Against,
    FigureData,
    budget_charts,
    confirmed_charts,
    furthest_pruned,
    layer_charts,
    narrowing_chart,
    study_charts,
)
from service.dashboard.heat_maps import HeatMap, PairChoice, heat_maps, pair_choice
from service.dashboard.leader_text import ranked
from service.dashboard.live_section import live_section, tab_icon, tab_title
from service.dashboard.notes_page import notes_context
from service.dashboard.pack_text import describe_stacking
from service.dashboard.pruning import describe_epochs, rung_table
from service.dashboard.rendering import address, render
from service.dashboard.status_text import describe_status
from service.dashboard.tables import tables_of
from service.dashboard.trial_columns import changed, searched, trial_columns
from service.dispatcher_health import DispatcherHealth
from service.pruner_text import describe_pruner
from studies.actors import Actor, may_change, may_submit
from studies.analysis.views import StudyAnalysis
from studies.artifacts import ArtifactView
from studies.pruner import NoPruner
from studies.searched_text import describe_overrides, describe_shared_space
from studies.states import CLOSED_STUDY_STATES, StudyState, TrialFilter, TrialState
from studies.store import Store
from studies.trials import Measurement, Phase
from studies.views import ArmView, StudyRecord, StudyView

_TRIALS_PER_PAGE = 25
_MOST_FILES = 100
# The longest wait of a page for its first analysis, and of an update of a page that has none yet: less than
# the scripts of a page wait for a response.
_PAGE_WAIT_S = 0.15
_UPDATE_WAIT_S = 10.0
# The version of the evidence that a page without it shows.
_NO_EVIDENCE = "none"

OUT_OF_BAND = Markup(' hx-swap-oob="morph"')


def _none_if_empty(value: object) -> object:
    # A form sends "all" as an empty value.
    return None if value == "" else value


class StudyPageQuery(BaseModel):
    """The query of a study's page: which trials its table shows and how, and the unit of the budget chart."""

    model_config = ConfigDict(frozen=True, extra="ignore")

    phase: Phase = "search"
    arm: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=64)
    state: Annotated[TrialFilter | None, BeforeValidator(_none_if_empty)] = None
    order: str = Field(default="value", max_length=16)
    page_token: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=512)
    against: Against = "trials"
    across: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=96)
    down: Annotated[str | None, BeforeValidator(_none_if_empty)] = Field(default=None, max_length=96)
    columns: Annotated[tuple[Annotated[str, Field(max_length=96)], ...], Field(max_length=64)] = ()

    def address(self, path: str, **changes: object) -> str:
        """Return the address of a path with this query and some changes; default values are left out."""
        query = self.model_dump(mode="json") | changes
        default = StudyPageQuery().model_dump(mode="json")
        return address(path, **{name: value for name, value in query.items() if value != default.get(name)})

    def fields(self, *own: str) -> list[tuple[str, str]]:
        """Return (name, value) of the hidden fields that keep this query in a form with fields of its own."""
        query: dict[str, str | list[str]] = self.model_dump(
            mode="json", exclude=set(own), exclude_defaults=True
        )
        return [
            (name, value)
            for name, values in query.items()
            for value in ([values] if isinstance(values, str) else values)
        ]


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

    @classmethod
    def parse(cls, text: str) -> "_PageVersion":
        """Return the version that a page states; a missing part is empty, and equals none."""
        return cls(*("", "", "", *text.split("."))[-3:])

    def __str__(self) -> str:
        return f"{self.study}.{self.rungs}.{self.evidence}"


def study_html(
    store: Store, analyses: AnalysisCache, study_id: str, query: StudyPageQuery, *, reader: Actor
) -> Aged[str]:
    """Return a study's page with the age of its analysis, and with buttons only for what this reader may do.

    While its first analysis is computed, the page has everything else.

    Raises:
        StudyNotFound, ArmNotFound: the study or the arm of the query does not exist.
        SpecInvalid: the order or page token is not valid.
    """
    # The evidence first, so that the study has every arm of the analysis, even one added in between.
    found = _evidence(analyses, study_id, query.against, wait_s=_PAGE_WAIT_S)
    study, arms = store.study(study_id), store.arms(study_id)
    evidence = found or _Evidence(_WITHOUT_EVIDENCE, _PageVersion("", "", _NO_EVIDENCE), age_s=0.0)
    outage = _outage(store, study)
    # The study is shown as it is now, and the evidence as it was.
    version = replace(evidence.version, study=_PageVersion.of(study, outage=outage).study)
    page = render(
        "study.html",
        **_context(store, study, arms, query, reader, version=version, outage=outage),
        **evidence.shown | _other_pair(analyses, study_id, arms, query, evidence.shown),
        **notes_context(store, study, reader=reader),
        artifacts=store.artifacts(study_id, most=_MOST_FILES + 1),
        most_files=_MOST_FILES,
        section=live_section(store, analyses, study, arms, wait_s=_PAGE_WAIT_S),
        has_charts=True,
        has_parts=bool(evidence.shown["layered_arms"]),
        json_url=f"/v1/studies/{study_id}",
        more_json=[
            f"/v1/studies/{study_id}/{part}"
            for part in ("live", "analysis", "arms", "trials", "layers", "events", "artifacts", "notes")
        ],
        spec_json=study.spec.model_dump_json(indent=2),
        trial_states=[
            state.value
            for state in TrialFilter
            if state is not TrialFilter.WAITING or not isinstance(study.spec.pruner, NoPruner)
        ],
    )
    return Aged(page, evidence.age_s)


def study_update_html(
    store: Store, analyses: AnalysisCache, study_id: str, query: StudyPageQuery, *, reader: Actor, seen: str
) -> Aged[str] | None:
    """Return the changed parts of a study's page, or None if nothing has changed since version `seen`.

    The analysis and its figures are redrawn only after a trial has finished or the study has changed state,
    once new ones have been computed.

    Raises:
        StudyNotFound, ArmNotFound, SpecInvalid: as for the page.
    """
    study = store.study(study_id)
    outage = _outage(store, study)
    now, before = _PageVersion.of(study, outage=outage), _PageVersion.parse(seen)
    if before == now:
        return None
    had_none = before.evidence == _NO_EVIDENCE
    evidence = (
        None
        if before.evidence == now.evidence
        else _evidence(analyses, study_id, query.against, wait_s=_UPDATE_WAIT_S if had_none else None)
    )
    is_behind = before.evidence != now.evidence
    if evidence is None or evidence.version.evidence == before.evidence:
        # The page shows the latest that has been computed.
        now, evidence = replace(now, evidence=before.evidence), None
    has_rungs = not isinstance(study.spec.pruner, NoPruner)
    is_pending = had_none and evidence is None
    has_new_rungs = evidence is not None or (has_rungs and not is_pending and before.rungs != now.rungs)
    if before.study == now.study and not has_new_rungs:
        return None
    arms = store.arms(study_id)
    # An update that has waited already must not wait so long again.
    wait_s = _PAGE_WAIT_S if had_none else _UPDATE_WAIT_S
    section = live_section(store, analyses, study, arms, wait_s=wait_s)
    if evidence is not None:
        shown = evidence.shown | _other_pair(analyses, study_id, arms, query, evidence.shown)
        version = replace(evidence.version, study=now.study)
    else:
        rungs = rung_table(study, arms, store.every_trial(study_id)) if has_new_rungs else None
        known = None if is_pending else analyses.last(_page_key(study_id, query.against))
        # Without one, the page keeps the sentence that it has.
        shown = (
            {"analysis": None}
            if known is None
            else {**known.value.shown, "age_s": known.age_s if is_behind else 0.0}
        )
        shown, version = shown | {"rungs": rungs}, now
    update = render(
        "study/update.html",
        **_context(store, study, arms, query, reader, version=version, outage=outage),
        **shown,
        section=section,
        has_new_rungs=has_new_rungs,
        is_redrawn=evidence is not None,
        is_first=had_none,
        oob=OUT_OF_BAND,
    )
    return Aged(update, 0.0 if evidence is None else evidence.age_s)


@dataclass(frozen=True)
class _Evidence:
    """The slow parts of a page.

    Attributes:
        shown: the variables of its template.
        version: the version of the study that they show.
        age_s: seconds since the study was read for them; 0 if they are current.
    """

    shown: dict[str, Any]
    version: _PageVersion
    age_s: float


# The slow parts of a page that does not have them yet.
_WITHOUT_EVIDENCE: Final[dict[str, Any]] = {
    "is_by_budget": False,
    "groups": (),
    "layer_charts": (),
    "layered_arms": (),
    "rungs": None,
    "narrowing": None,
    "failures": (),
}


def _page_key(study_id: str, against: Against) -> Key:
    return "page", study_id, against


def _evidence(
    analyses: AnalysisCache, study_id: str, against: Against, *, wait_s: float | None
) -> _Evidence | None:
    """Return the slow parts of a page, computed once for all readers.

    Args:
        analyses: the analyses.
        study_id: the study.
        against: the unit of the budget chart.
        wait_s: the longest wait for the first ones; then they are None. None: until they are there.
    """

    def draw() -> Timed[_Evidence]:
        # The analysis first, so that the record has every arm of it, even one added in between.
        known = analyses.current_study(study_id)
        if known is not None:
            return analyses.compute(partial(_draw_evidence, known, against))
        return analyses.compute_with_study(study_id, partial(_analyse_and_draw, study_id, against))

    key, ids = _page_key(study_id, against), (study_id,)
    found = (
        analyses.get(key, ids, draw) if wait_s is None else analyses.get_soon(key, ids, draw, wait_s=wait_s)
    )
    if found is None:
        return None
    shown = {**found.value.shown, "age_s": found.age_s}
    return replace(found.value, shown=shown, age_s=found.age_s)


def _analyse_and_draw(study_id: str, against: Against, store: Store) -> tuple[_Evidence, StudyAnalysis]:
    """Return the slow parts of a page and the analysis in them, with one read of the study."""
    # Imported here, because statistics take a second to import.
    from studies.analysis.analyse import analyse

    record = store.study_record(study_id)
    analysis = analyse(record)
    return _evidence_of(record, analysis, against, store), analysis


def _draw_evidence(analysis: StudyAnalysis, against: Against, store: Store) -> _Evidence:
    """Return the slow parts of a page, drawn from the study as it is now."""
    return _evidence_of(store.study_record(analysis.study_id), analysis, against, store)


def _evidence_of(record: StudyRecord, analysis: StudyAnalysis, against: Against, store: Store) -> _Evidence:
    """Return an analysis, its tables, and the figures of a study."""
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
        seed_runs={arm.name: _seed_runs(record, analysis, arm) for arm in record.arms},
    )
    has_results = record.study.progress.finished > 0
    layers = store.study_layers(record.study.id).arms
    by_name = {arm.name: arm for arm in record.arms}
    pair = pair_choice(record.arms, None, None)
    shown = {
        "narrowing": narrowing_chart(record.study, record.arms, analysis.narrowing),
        "analysis": analysis,
        "is_by_budget": has_budget_verdict(analysis),
        "tables": tables_of(analysis, record.arms),
        "confirmed_charts": confirmed_charts(data),
        "budget_charts": budget_charts(data, against) if has_results else (),
        "groups": study_charts(data) if has_results else (),
        "layer_charts": layer_charts(record.arms, layers),
        # Anything new in their charts gives them another id, so that the page loads them again.
        "layered_arms": [
            (by_name[of.arm], f"{len(of.trials)}-{of.epochs[-1].epoch}")
            for of in layers
            if of.arm in by_name and of.epochs
        ],
        "rungs": rung_table(record.study, record.arms, record.trials),
        "pair": pair,
        "heat_maps": ()
        if pair is None
        else heat_maps(record.arms, record.trials, pair, record.study.workload_card),
        "failures": analysis.failures,
    }
    return _Evidence(shown, _PageVersion.of(record.study, outage=None), age_s=0.0)


def _other_pair(
    analyses: AnalysisCache,
    study_id: str,
    arms: Sequence[ArmView],
    query: StudyPageQuery,
    shown: dict[str, Any],
) -> dict[str, Any]:
    """Return the heat maps of a pair that the evidence does not show; nothing if it shows the reader's pair.

    A part of its own, so that a choice of names does not draw every chart again.
    """
    pair = pair_choice(arms, query.across, query.down)
    if pair is None or shown.get("pair") in {None, pair}:
        return {}

    def draw() -> Timed[tuple[HeatMap, ...]]:
        return analyses.compute(partial(_draw_pair, study_id, pair))

    found = analyses.get(("pair", study_id, pair.across, pair.down), (study_id,), draw, is_patient=True)
    return {"pair": pair, "heat_maps": found.value}


def _draw_pair(study_id: str, pair: PairChoice, store: Store) -> tuple[HeatMap, ...]:
    card = store.study(study_id).workload_card
    return heat_maps(store.arms(study_id), store.every_trial(study_id), pair, card)


def _seed_runs(
    record: StudyRecord, analysis: StudyAnalysis, arm: ArmView
) -> tuple[tuple[Measurement, ...], ...]:
    """Return the measurements of every completed confirmation run of an arm's best configurations."""
    return tuple(
        measured
        for one in analysis.confirmed
        if (one.arm, one.configuration) == (arm.name, "best")
        for run in one.runs
        if run.state is TrialState.COMPLETED and (measured := record.measurements.get(run.trial_id))
    )


def _outage(store: Store, study: StudyView) -> str | None:
    """Return why no dispatcher can run a study; None if one can, or if the study does not wait for one."""
    p = study.progress
    if study.state not in {StudyState.QUEUED, StudyState.RUNNING} or p.running + p.confirmations_running:
        return None
    return DispatcherHealth.of(store.dispatchers()).outage


def _context(
    store: Store,
    study: StudyView,
    arms: Sequence[ArmView],
    query: StudyPageQuery,
    reader: Actor,
    *,
    version: _PageVersion,
    outage: str | None,
) -> dict[str, Any]:
    verbs = study.verbs if may_change(reader, study.owner) else ()
    # Trials still finish while a study is paused, so the page is live until the study is closed.
    is_live = study.state not in CLOSED_STUDY_STATES
    is_pending = version.evidence == _NO_EVIDENCE
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
        "may_archive": not is_live and may_change(reader, study.owner),
        "arms": arms,
        "arms_by_name": {arm.name: arm for arm in arms},
        "ranked_arms": [
            *ranked(arms, study.workload_card),
            *((arm, None) for arm in arms if arm.best is None),
        ],
        "status": describe_status(study, outage=outage),
        "pruner_text": describe_pruner(study),
        "epochs_text": describe_epochs(study, arms),
        "shared_space": describe_shared_space(study),
        "overrides": describe_overrides(arms),
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
        "columns": trial_columns(study, arms, phase=query.phase, wanted=query.columns),
        "changed": changed,
        "shown_with": partial(query.address, f"/studies/{study.id}"),
        "more_optimizers": more,
        "searched": searched,
        "weights": _weights(store, study),
        "is_live": is_live,
        "tab_title": tab_title(study),
        "tab_icon": tab_icon(study),
        "is_pending": is_pending,
        "live_url": query.address(f"/studies/{study.id}/live", seen=version)
        if is_live or is_pending
        else None,
    }


def _weights(store: Store, study: StudyView) -> dict[str, list[ArtifactView]]:
    """Return the weights that a study keeps, by arm."""
    kept: dict[str, list[ArtifactView]] = {name: [] for name in study.arms}
    if study.spec.keep.weights != "none":
        for file in store.artifacts(study.id, kind="weights"):
            if file.is_kept:
                kept[file.arm].append(file)
    return kept
