"""Progress while a study runs: bars in a terminal, one line an event anywhere else."""

__all__ = ["reporter"]

from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from service.cli.output import console, number
from studies.views import ArmView, EventView, StudyView

Report = Callable[[EventView], None]


@contextmanager
def reporter(study: StudyView, arms: Sequence[ArmView]) -> Generator[Report]:
    """Yield what shows a study's events."""
    out = console()
    if not out.is_terminal:
        yield _Lines(out, study, arms)
        return
    columns = (TextColumn("{task.description}"), BarColumn(), TextColumn("{task.completed:.0f}/{task.total:.0f}"), TextColumn("{task.fields[note]}"))
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as bars:
        yield _Bars(bars, study, arms)


def _said(data: dict[str, object]) -> str:
    reason = data.get("reason")
    return f"{data.get('to')}" + (f": {reason}" if reason else "")


class _Bars:
    """One bar an arm, and one for the whole study."""

    def __init__(self, bars: Progress, study: StudyView, arms: Sequence[ArmView]) -> None:
        self._bars = bars
        self._study_id = study.id
        self._metric = study.workload_card.metric
        self._whole = bars.add_task(f"{study.id} {study.state.value}", total=study.progress.trials, completed=study.progress.finished, note="")
        self._arms: dict[str, TaskID] = {
            arm.name: bars.add_task(
                f"  {arm.name}", total=arm.progress.trials, completed=arm.progress.finished, note=self._note(arm.best.value if arm.best else None, 0)
            )
            for arm in arms
        }

    def _note(self, best: float | None, diverged: int) -> str:
        found = f"best {self._metric} {number(best)}" if best is not None else ""
        return f"{found}{f', {diverged} diverged' if diverged else ''}".removeprefix(", ")

    def __call__(self, event: EventView) -> None:
        """Move the bars to where an event says."""
        if event.kind == "study.state":
            self._bars.update(self._whole, description=f"{self._study_id} {_said(event.data)}")
        elif event.kind == "progress":
            whole = cast("dict[str, Any]", event.data["study"])
            self._bars.update(self._whole, completed=whole["finished"], total=whole["trials"])
            for name, arm in cast("dict[str, dict[str, Any]]", event.data["arms"]).items():
                if name in self._arms:
                    note = self._note(arm.get("best"), arm["diverged"])
                    self._bars.update(self._arms[name], completed=arm["finished"], total=arm["trials"], note=note)


class _Lines:
    """One line for each change of state and each trial that ended."""

    def __init__(self, out: Console, study: StudyView, arms: Sequence[ArmView]) -> None:
        self._out = out
        self._study_id = study.id
        self._metric = study.workload_card.metric
        self._trials = {arm.name: arm.progress.trials for arm in arms}
        self._ended = dict.fromkeys(self._trials, 0)

    def __call__(self, event: EventView) -> None:
        """Say what an event says."""
        data = event.data
        if event.kind == "study.state":
            self._say(f"{self._study_id} {_said(data)}")
        elif event.kind == "trial.requeued":
            self._say(f"{data['trial']} goes back to the queue: {data.get('reason') or 'its worker was lost'}")
        elif event.kind == "trial.finished":
            arm = str(data["arm"])
            self._ended[arm] = self._ended.get(arm, 0) + 1
            value = cast("float | None", data.get("value"))
            outcome = f"{self._metric} {number(value)}" if value is not None else str(data.get("reason") or "")
            self._say(f"{arm} {self._ended[arm]}/{self._trials.get(arm, '?')} {data['state']} {outcome}".rstrip())

    def _say(self, line: str) -> None:
        self._out.print(line, soft_wrap=True)
        self._out.file.flush()
