"""Progress while a study runs: bars in a terminal, one line an event anywhere else."""

__all__ = ["reporter"]

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from service.cli.output import console
from studies.formatting import significant
from studies.pruner import NoPruner
from studies.views import ArmView, EventView, StudyView

Report = Callable[[EventView], None]


@contextmanager
def reporter(study: StudyView, arms: Sequence[ArmView]) -> Generator[Report]:
    """Yield what shows a study's events."""
    out = console()
    if not out.is_terminal:
        yield _Lines(out, study, arms)
        return
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:.0f}/{task.total:.0f}"),
        TextColumn("{task.fields[note]}"),
    )
    with Progress(*columns, TimeElapsedColumn(), console=out, transient=True) as bars:
        yield _Bars(bars, study, arms)


def _said(data: dict[str, object]) -> str:
    reason = data.get("reason")
    return f"{data.get('to')}" + (f": {reason}" if reason else "")


def _extension(data: Mapping[str, Any]) -> str:
    """Return what was added to a study, in words."""
    totals = {"trials_per_arm": "trials an arm", "replicates": "replicates", "seeds": "fresh seeds"}
    added = [f"arm {arm['name']}" for arm in data.get("arms", ())]
    return ", ".join(
        [*added, *(f"{data[field]} {words} in all" for field, words in totals.items() if field in data)]
    )


class _Bars:
    """One bar an arm, one for the whole study, one for its confirmation runs.

    Of trials, with a pruner of epochs, for there most trials end early.
    """

    def __init__(self, bars: Progress, study: StudyView, arms: Sequence[ArmView]) -> None:
        self._bars = bars
        self._counts_epochs = not isinstance(study.spec.pruner, NoPruner)
        self._study_id = study.id
        self._metric = study.workload_card.metric
        now = study.progress.model_dump()
        self._whole = bars.add_task(
            f"{study.id} {study.state.value}", **self._place(now), note=self._note(now)
        )
        self._arms: dict[str, TaskID] = {}
        for arm in arms:
            now = {**arm.progress.model_dump(), "best": arm.best.value if arm.best else None}
            self._arms[arm.name] = bars.add_task(f"  {arm.name}", **self._place(now), note=self._note(now))

        self._confirmation: TaskID | None = None
        self._show_confirmation(study.progress.model_dump())

    def _show_confirmation(self, now: Mapping[str, Any]) -> None:
        """Move the bar of the runs on fresh seeds, which stands there from the first of them on."""
        # An event that an older version wrote knows of none.
        total, finished = now.get("confirmations", 0), now.get("confirmations_finished", 0)
        if self._confirmation is None and (finished or now.get("confirmations_running")):
            self._confirmation = self._bars.add_task(
                "  confirmation", completed=finished, total=total, note="runs on fresh seeds"
            )
        elif self._confirmation is not None:
            self._bars.update(self._confirmation, completed=finished, total=total)

    def _place(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """Return how far a bar is, of how much."""
        if not self._counts_epochs:
            return {"completed": now["finished"], "total": now["trials"]}
        # Trials that died have left epochs untrained; once all have ended, nothing is to come.
        is_done = now["finished"] == now["trials"]
        return {"completed": now["epochs"] if is_done else now["epochs_done"], "total": now["epochs"]}

    def _note(self, now: Mapping[str, Any]) -> str:
        best = now.get("best")
        parts = (
            "epochs" if self._counts_epochs else "",
            f"best {self._metric} {significant(best)}" if best is not None else "",
            # An event that an older version wrote has not counted those that wait.
            *(f"{now[word]} {word}" for word in ("waiting", "pruned", "diverged") if now.get(word)),
        )
        return ", ".join(part for part in parts if part)

    def __call__(self, event: EventView) -> None:
        """Move the bars to where an event says."""
        if event.kind == "study.state":
            self._bars.update(self._whole, description=f"{self._study_id} {_said(event.data)}")
        elif event.kind == "progress":
            whole = cast("dict[str, Any]", event.data["study"])
            self._bars.update(self._whole, **self._place(whole), note=self._note(whole))
            self._show_confirmation(whole)
            for name, arm in cast("dict[str, dict[str, Any]]", event.data["arms"]).items():
                if name in self._arms:
                    self._bars.update(self._arms[name], **self._place(arm), note=self._note(arm))


class _Lines:
    """One line for each change of state and each trial that ended."""

    def __init__(self, out: Console, study: StudyView, arms: Sequence[ArmView]) -> None:
        self._out = out
        self._study_id = study.id
        self._metric = study.workload_card.metric
        self._trials = {arm.name: arm.progress.trials for arm in arms}
        self._ended = dict.fromkeys(self._trials, 0)
        self._runs = {arm.name: arm.progress.confirmations for arm in arms}
        self._confirmed = dict.fromkeys(self._trials, 0)

    def __call__(self, event: EventView) -> None:
        """Say what an event says."""
        data = event.data
        if event.kind == "study.state":
            self._say(f"{self._study_id} {_said(data)}")
        elif event.kind == "study.extended":
            self._say(f"{self._study_id} is extended: {_extension(data)}")
        elif event.kind == "trial.requeued":
            self._say(
                f"{data['trial']} goes back to the queue: {data.get('reason') or 'its worker was lost'}"
            )
        elif event.kind == "trial.promoted":
            self._say(
                f"{data['trial']} is promoted: from epoch {data['from_epoch']} to epoch {data['to_epoch']}"
            )
        elif event.kind == "trial.finished":
            arm = str(data["arm"])
            is_search = data.get("phase", "search") == "search"
            ended, total = (self._ended, self._trials) if is_search else (self._confirmed, self._runs)
            ended[arm] = ended.get(arm, 0) + 1
            value = cast("float | None", data.get("value"))
            outcome = (
                f"{self._metric} {significant(value)}" if value is not None else str(data.get("reason") or "")
            )
            of = arm if is_search else f"{arm} confirmation"
            self._say(f"{of} {ended[arm]}/{total.get(arm, '?')} {data['state']} {outcome}".rstrip())

    def _say(self, line: str) -> None:
        self._out.print(line, soft_wrap=True)
        self._out.file.flush()
