"""Trials as CSV: one row per trial, one column per further metric and hyperparameter."""

__all__ = ["csv_cell", "trials_csv", "trials_csv_parts"]

import csv
import io
import re
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from studies.control_characters import strip_controls
from studies.views import TrialList, TrialView

_FIELDS = (
    "id",
    "arm",
    "number",
    "state",
    "origin",
    "value",
    "best_epoch",
    "test_value",
    "epochs_done",
    "to_epoch",
    "bracket",
    "pack_size",
    "memory_bytes",
    "device_memory_bytes",
    "cost_s",
    "replicate",
    "pair_index",
    "phase",
    "confirms",
    "seed",
    "attempt",
    "worker",
    "reason",
    "created_at",
    "started_at",
    "ended_at",
)


# A cell is a formula if it starts with one of these signs; full-width signs count in some languages.
_FORMULA: Final = re.compile("(?:^|[;|\t\n])(?=[=+@\\-\uff1d\uff0b\uff20\uff0d\t\n])")


def trials_csv(trials: Sequence[TrialView]) -> str:
    """Return trials as CSV; see `trials_csv_parts`."""
    metrics = dict.fromkeys(name for trial in trials for name in trial.test_metrics)
    parameters = dict.fromkeys(name for trial in trials for name in trial.parameters)
    listed = TrialList(ids=(), metrics=tuple(metrics), parameters=tuple(parameters))
    return "".join(trials_csv_parts(listed, [trials]))


def trials_csv_parts(listed: TrialList, parts: Iterable[Sequence[TrialView]]) -> Iterator[str]:
    """Yield RFC 4180 text with a header row: numbers in full, missing values empty, times in ISO 8601.

    After the fixed columns come the test values of further metrics, `test_metrics.NAME`, and the
    hyperparameters of all trials, empty for a trial that lacks them.

    Args:
        listed: the names of the columns.
        parts: the trials, of which one part at a time is in memory.
    """
    further = (csv_cell(f"test_metrics.{name}") for name in listed.metrics)
    yield _lines([[*_FIELDS, *further, *(csv_cell(name) for name in listed.parameters)]])
    for trials in parts:
        yield _lines(
            [
                *(csv_cell(_plain(getattr(trial, name))) for name in _FIELDS),
                *(trial.test_metrics.get(name) for name in listed.metrics),
                *(csv_cell(trial.parameters.get(name)) for name in listed.parameters),
            ]
            for trial in trials
        )


def _lines(rows: Iterable[Sequence[object]]) -> str:
    text = io.StringIO()
    csv.writer(text).writerows(rows)
    return text.getvalue()


def _plain(value: object) -> object:
    """Return a value as JSON has it."""
    # Times of the store are in UTC.
    return value.isoformat().replace("+00:00", "Z") if isinstance(value, datetime) else value


def csv_cell(value: object) -> object:
    """Return a value as a cell that no spreadsheet runs as a formula; a reason may quote any text."""
    if not isinstance(value, str):
        return value
    # Quotation marks do not help: a spreadsheet may expect another separator than the comma.
    return _FORMULA.sub(lambda found: f"{found[0]}'", strip_controls(value))
