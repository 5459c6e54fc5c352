"""Progress of a running study: bars in a terminal, one line per event anywhere else."""

__all__ = ["reporter"]

from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, cast

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from service.cli.output import console
from studies.formatting import metric, plural
from studies.pruner import NoPruner
from studies.views import ArmView, EventView, StudyView

Report = Callable[[EventView], None]


@contextmanager
def reporter(study: StudyView, arms: Sequence[ArmView]) -> Generator[Report]:
    """Yield a function that shows one event of a study."""
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


def _describe_state(data: dict[str, object]) -> str:
    reason = data.get("reason")
    return f"{data.get('to')}" + (f": {reason}" if reason else "")


def _describe_extension(data: Mapping[str, Any]) -> str:
    """Return what was added to a study, e.g. 'arm sgd, 9 fresh seeds in total'."""
    totals = {"trials_per_arm": "trial", "replicates": "replicate", "seeds": "fresh seed"}
    added = [f"arm {arm['name']}" for arm in data.get("arms", ())]
    for field, noun in totals.items():
        if field in data:
            per_arm = " per arm" if field == "trials_per_arm" else ""
            added.append(f"{plural(data[field], noun)}{per_arm} in total")
    return ", ".join(added)


class _Bars:
    """One progress bar for the study, one per arm and one for the confirmation runs.

    Bars count trials. With a pruner they count epochs, because most trials end early.
    """

    def __init__(self, bars: Progress, study: StudyView, arms: Sequence[ArmView]) -> None:
        self._bars = bars
        self._counts_epochs = not isinstance(study.spec.pruner, NoPruner)
        self._study_id = study.id
        self._card = study.workload_card
        now = study.progress.model_dump()
        self._study_bar = bars.add_task(
            f"{study.id} {study.state.value}", **self._progress(now), note=self._note(now)
        )
        self._arms: dict[str, TaskID] = {}
        for arm in arms:
            now = {**arm.progress.model_dump(), "best": arm.best.value if arm.best else None}
            self._arms[arm.name] = bars.add_task(f"  {arm.name}", **self._progress(now), note=self._note(now))

        self._confirmation: TaskID | None = None
        self._show_confirmation(study.progress.model_dump())

    def _show_confirmation(self, now: Mapping[str, Any]) -> None:
        """Update the bar of the confirmation runs; it appears with the first of them."""
        # Events that an older version wrote lack these counts.
        total, finished = now.get("confirmations", 0), now.get("confirmations_finished", 0)
        if self._confirmation is None and (finished or now.get("confirmations_running")):
            self._confirmation = self._bars.add_task(
                "  confirmation", completed=finished, total=total, note="runs on fresh seeds"
            )
        elif self._confirmation is not None:
            self._bars.update(self._confirmation, completed=finished, total=total)

    def _progress(self, now: Mapping[str, Any]) -> dict[str, Any]:
        """Return how much of a bar is done, and its total."""
        if not self._counts_epochs:
            return {"completed": now["finished"], "total": now["trials"]}
        # Trials that diverged or failed leave epochs untrained, so a finished bar is shown as full.
        is_done = now["finished"] == now["trials"]
        return {"completed": now["epochs"] if is_done else now["epochs_done"], "total": now["epochs"]}

    def _note(self, now: Mapping[str, Any]) -> str:
        best = now.get("best")
        parts = (
            "epochs" if self._counts_epochs else "",
            f"best {self._card.metric} {metric(best, self._card.unit)}" if best is not None else "",
            # Events that an older version wrote lack some of these counts.
            *(f"{now[word]} {word}" for word in ("waiting", "pruned", "diverged") if now.get(word)),
        )
        return ", ".join(part for part in parts if part)

    def __call__(self, event: EventView) -> None:
        """Update the bars from an event."""
        if event.kind == "study.state":
            self._bars.update(self._study_bar, description=f"{self._study_id} {_describe_state(event.data)}")
        elif event.kind == "progress":
            counts = cast("dict[str, Any]", event.data["study"])
            self._bars.update(self._study_bar, **self._progress(counts), note=self._note(counts))
            self._show_confirmation(counts)
            for name, arm in cast("dict[str, dict[str, Any]]", event.data["arms"]).items():
                if name in self._arms:
                    self._bars.update(self._arms[name], **self._progress(arm), note=self._note(arm))


class _Lines:
    """One line for each change of state and each trial that finished."""

    def __init__(self, out: Console, study: StudyView, arms: Sequence[ArmView]) -> None:
        self._out = out
        self._study_id = study.id
        self._card = study.workload_card
        self._trials = {arm.name: arm.progress.trials for arm in arms}
        self._finished = dict.fromkeys(self._trials, 0)
        self._runs = {arm.name: arm.progress.confirmations for arm in arms}
        self._finished_runs = dict.fromkeys(self._trials, 0)

    def __call__(self, event: EventView) -> None:
        """Print a line for an event."""
        data = event.data
        if event.kind == "study.state":
            self._print(f"{self._study_id} {_describe_state(data)}")
        elif event.kind == "study.extended":
            self._print(f"{self._study_id} extended: {_describe_extension(data)}")
        elif event.kind == "study.noted":
            by = f" by {data['by']}" if data["by"] else ""
            self._print(f"{self._study_id} has new notes{by}")
        elif event.kind == "trial.requeued":
            self._print(f"{data['trial']} requeued: {data.get('reason') or 'its worker was lost'}")
        elif event.kind == "trial.promoted":
            self._print(
                f"{data['trial']} promoted from epoch {data['from_epoch']} to epoch {data['to_epoch']}"
            )
        elif event.kind == "trial.finished":
            arm = str(data["arm"])
            is_search = data.get("phase", "search") == "search"
            finished, total = (
                (self._finished, self._trials) if is_search else (self._finished_runs, self._runs)
            )
            finished[arm] = finished.get(arm, 0) + 1
            value = cast("float | None", data.get("value"))
            outcome = (
                f"{self._card.metric} {metric(value, self._card.unit)}"
                if value is not None
                else str(data.get("reason") or "")
            )
            label = arm if is_search else f"{arm} confirmation"
            self._print(f"{label} {finished[arm]}/{total.get(arm, '?')} {data['state']} {outcome}".rstrip())

    def _print(self, line: str) -> None:
        self._out.print(line, soft_wrap=True)
        self._out.file.flush()
