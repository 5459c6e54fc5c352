"""The part of a study's page that shows what it does at the moment, computed once for all readers."""

__all__ = ["LiveSection", "StateRow", "live_section", "tab_icon", "tab_title"]

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from service.analysis_cache import AnalysisCache
from service.analysis_pool import Timed
from service.dashboard.figures import Chart, live_charts
from studies.formatting import duration, percent
from studies.live_views import LiveStudy, TimeLeft, TrialsByEpochs
from studies.states import CLOSED_STUDY_STATES, FINISHED_TRIAL_STATES, StudyState
from studies.store import Store
from studies.trials import Phase
from studies.views import ArmView, Progress, StudyView

_PARTS: Final = {"all": 3, "second half": 2, "first half": 1, "none": 0}
_PHASES: Final[tuple[Phase, ...]] = ("search", "confirmation")
_STATES: Final = ("completed", "pruned", "diverged", "failed", "cancelled", "running", "waiting", "queued")
_ICONS: Final = {
    StudyState.COMPLETED: "completed",
    StudyState.FAILED: "failed",
    StudyState.CANCELLED: "cancelled",
    StudyState.PAUSED: "paused",
    StudyState.QUEUED: "queued",
}


@dataclass(frozen=True)
class StateRow:
    """The trials in one state.

    Attributes:
        state: name of the state; "to come" for trials that have no configuration yet.
        parts: pairs of how much of their epochs they have trained, from 0 (none) to 3 (all), and how many.
        total: how many there are.
    """

    state: str
    parts: tuple[tuple[int, int], ...]
    total: int


@dataclass(frozen=True)
class LiveSection:
    """What a study does at the moment.

    Attributes:
        live: as the store returns it.
        charts: its charts.
        rows: the trials by state, of the search and of the confirmation.
        time_left: how long it will still take, in words; empty if that is not known.
    """

    live: LiveStudy
    charts: tuple[Chart, ...]
    rows: tuple[tuple[Phase, tuple[StateRow, ...]], ...]
    time_left: str


def live_section(
    store: Store, analyses: AnalysisCache, study: StudyView, arms: Sequence[ArmView], *, wait_s: float
) -> LiveSection | None:
    """Return what an open study does at the moment; None if it is closed, or if that takes too long.

    Args:
        store: the studies.
        analyses: keeps it, within a budget of processor time, until the study changes.
        study: the study.
        arms: its arms.
        wait_s: the longest wait for the first one.
    """
    if study.state in CLOSED_STUDY_STATES:
        return None

    def read() -> Timed[LiveSection]:
        began = time.thread_time()
        live = store.live(study.id)
        section = LiveSection(
            live=live,
            charts=live_charts(study, arms, live),
            rows=tuple(
                (phase, _rows(study.progress, live.states, phase))
                for phase in _PHASES
                if phase == "search" or study.progress.confirmations_running
            ),
            time_left="" if live.time_left is None else _describe(live.time_left),
        )
        return Timed(section, time.thread_time() - began)

    found = analyses.get_soon(("live", study.id), (study.id,), read, wait_s=wait_s)
    return None if found is None else found.value


def tab_title(study: StudyView) -> str:
    """Return what a browser's tab says about a study: how far it is, or how it ended."""
    name = study.state.value
    if study.state in {StudyState.RUNNING, StudyState.PAUSED}:
        done = percent(_share_done(study))
        name = done if study.state is StudyState.RUNNING else f"paused at {done}"
    return f"{name[:1].upper()}{name[1:]} · {study.name}"


def tab_icon(study: StudyView) -> str:
    """Return the file name of a tab's icon."""
    return f"icon-{_ICONS.get(study.state, 'running')}.svg"


def _share_done(study: StudyView) -> float:
    """Return the fraction of a study's planned epochs that is trained, confirmation runs included."""
    p = study.progress
    search = 1.0 if p.finished == p.trials else p.epochs_done / max(1, p.epochs)
    runs = p.confirmations * study.epochs
    if not runs:
        return min(1.0, search)
    done = search * p.epochs + p.confirmations_finished * study.epochs
    return min(1.0, done / max(1, p.epochs + runs))


def _rows(progress: Progress, states: Sequence[TrialsByEpochs], phase: Phase) -> tuple[StateRow, ...]:
    counted: dict[str, dict[int, int]] = {name: {} for name in _STATES}
    for each in states:
        if each.phase == phase:
            name = "waiting" if each.is_waiting else each.state.value
            # A trial that has ended is done, however many epochs it trained.
            part = 3 if each.state in FINISHED_TRIAL_STATES else _PARTS[each.epochs_done]
            counted[name][part] = counted[name].get(part, 0) + each.trials
    rows = [
        StateRow(name, tuple(sorted(parts.items(), reverse=True)), sum(parts.values()))
        for name, parts in counted.items()
        if parts
    ]
    planned = progress.trials if phase == "search" else progress.confirmations
    to_come = planned - sum(row.total for row in rows)
    return (*rows, StateRow("to come", ((0, to_come),), to_come)) if to_come > 0 else tuple(rows)


def _describe(left: TimeLeft) -> str:
    low, high = _roughly(left.low_s), _roughly(left.high_s)
    return f"about {_roughly(left.seconds)}" + (f" ({low} to {high})" if low != high else "")


def _roughly(seconds: float) -> str:
    rounded = _rounded(seconds)
    if rounded < 60:
        return f"{rounded:.0f}\N{NO-BREAK SPACE}s"
    return duration(rounded).removesuffix("\N{NO-BREAK SPACE}00\N{NO-BREAK SPACE}s")


def _rounded(seconds: float) -> float:
    """Return seconds as roughly as an estimate deserves."""
    steps = ((20, 1), (60, 5), (600, 15), (3600, 60), (math.inf, 300))
    step = next(step for below, step in steps if seconds < below)
    return max(1, step * round(seconds / step))
