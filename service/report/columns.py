"""Trials and measurements as Parquet files; measurements also as CSV, written in the same pass."""

__all__ = ["LayerFile", "MeasurementFiles", "trial_table"]

import csv
import io
from collections.abc import Iterable, Sequence
from typing import IO, Any, Final, Self

import pyarrow as pa  # pyright: ignore[reportMissingTypeStubs] # it ships none
from pyarrow import parquet  # pyright: ignore[reportMissingTypeStubs] # it ships none

from service.dashboard.trials_csv import csv_cell
from studies.layers import LayerMeasurement, TrialLayers
from studies.space import Scalar
from studies.trials import Measurement
from studies.views import TrialView

# pyarrow has no type stubs, so everything imported from it is of unknown type; Any avoids a warning per use.
_pa: Any = pa
_pq: Any = parquet

_TEXT: Final = "string"
_WHOLE: Final = "int64"
_REAL: Final = "float64"
_TIME: Final = "time"

_TRIAL: Final = {
    "id": _TEXT,
    "arm": _TEXT,
    "phase": _TEXT,
    "number": _WHOLE,
    "confirms": _WHOLE,
    "state": _TEXT,
    "origin": _TEXT,
    "replicate": _WHOLE,
    "pair_index": _WHOLE,
    "seed": _WHOLE,
    "value": _REAL,
    "best_epoch": _WHOLE,
    "test_value": _REAL,
    "epochs_done": _WHOLE,
    "to_epoch": _WHOLE,
    "bracket": _WHOLE,
    "pack_size": _WHOLE,
    "memory_bytes": _WHOLE,
    "device_memory_bytes": _WHOLE,
    "cost_s": _REAL,
    "attempt": _WHOLE,
    "retries": _WHOLE,
    "worker": _TEXT,
    "reason": _TEXT,
    "created_at": _TIME,
    "started_at": _TIME,
    "ended_at": _TIME,
}
_MEASURED: Final = tuple(name for name in Measurement.model_fields if name not in {"epoch", "metrics"})


_LAYER: Final = tuple(name for name in LayerMeasurement.model_fields if name != "epoch")


def _type(name: str) -> Any:
    return _pa.timestamp("us", tz="UTC") if name == _TIME else _pa.type_for_alias(name)


def _kind(values: Sequence[Scalar]) -> str:
    """Return the narrowest type that holds all of a hyperparameter's values: bool, int64, float64 or text."""
    if all(isinstance(value, bool) for value in values):
        return "bool"
    if any(isinstance(value, bool | str) for value in values):
        return _TEXT
    return _WHOLE if all(isinstance(value, int) for value in values) else _REAL


def trial_table(trials: Sequence[TrialView], into: IO[bytes]) -> None:
    """Write a Parquet file with one row per trial.

    It has a column `test_metrics.NAME` for each further metric and `parameters.NAME` for each
    hyperparameter.
    """
    columns: dict[str, Any] = {
        name: _pa.array([_stored(getattr(trial, name)) for trial in trials], _type(kind))
        for name, kind in _TRIAL.items()
    }
    for name in dict.fromkeys(name for trial in trials for name in trial.test_metrics):
        tests = [trial.test_metrics.get(name) for trial in trials]
        columns[f"test_metrics.{name}"] = _pa.array(tests, _type(_REAL))
    for name in dict.fromkeys(name for trial in trials for name in trial.parameters):
        kind = _kind([trial.parameters[name] for trial in trials if name in trial.parameters])
        values = [trial.parameters.get(name) for trial in trials]
        columns[f"parameters.{name}"] = _pa.array(
            [str(v) if kind == _TEXT and v is not None else v for v in values], _type(kind)
        )
    _pq.write_table(_pa.table(columns), into, compression="zstd")


def _stored(value: Any) -> Any:
    # States are enums; their values are stored. None stays None.
    return getattr(value, "value", value)


class MeasurementFiles:
    """A Parquet file and a CSV file of measurements, written a few trials at a time.

    Args:
        binary: empty binary file for Parquet; it stays open.
        text: empty binary file for CSV; it stays open.
        metrics: names of further metrics; each has a column `metrics.NAME`.
    """

    def __init__(self, binary: IO[bytes], text: IO[bytes], *, metrics: Sequence[str]) -> None:
        self._metrics = tuple(metrics)
        fields = [
            ("trial_id", _pa.dictionary(_pa.int32(), _pa.string())),
            ("arm", _pa.dictionary(_pa.int32(), _pa.string())),
            ("epoch", _pa.int64()),
        ]
        numbers = [*_MEASURED, *(f"metrics.{name}" for name in self._metrics)]
        self._schema: Any = _pa.schema([*fields, *((name, _pa.float64()) for name in numbers)])
        self._parquet = _pq.ParquetWriter(binary, self._schema, compression="zstd")
        self._text = io.TextIOWrapper(text, encoding="utf-8", newline="", write_through=False)
        self._csv = csv.writer(self._text)
        self._csv.writerow([csv_cell(name) for name in self._schema.names])

    def __enter__(self) -> Self:
        """Return the files."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Complete both files but leave them open."""
        self._parquet.close()
        self._text.flush()
        self._text.detach()

    def write(self, measured: Iterable[tuple[TrialView, Sequence[Measurement]]]) -> None:
        """Append measurements, by trial and epoch."""
        rows = [
            (
                *(trial.id, trial.arm, m.epoch),
                *(getattr(m, name) for name in _MEASURED),
                *(m.metrics.get(name) for name in self._metrics),
            )
            for trial, measurements in measured
            for m in measurements
        ]
        if not rows:
            return
        # Ids, arm names and numbers cannot be formulas in a spreadsheet, so nothing is escaped.
        self._csv.writerows(rows)
        columns = [
            _pa.array(column, field.type)
            for column, field in zip(zip(*rows, strict=True), self._schema, strict=True)
        ]
        self._parquet.write_table(_pa.table(columns, schema=self._schema))


class LayerFile:
    """A Parquet file of what layers measured, with a row for each trial, epoch and layer.

    Args:
        binary: empty binary file; it stays open.
    """

    def __init__(self, binary: IO[bytes]) -> None:
        words = [(name, _pa.dictionary(_pa.int32(), _pa.string())) for name in ("trial_id", "arm", "layer")]
        self._schema: Any = _pa.schema(
            [
                *words,
                ("is_scale_invariant", _pa.bool_()),
                ("epoch", _pa.int64()),
                *((name, _pa.float64()) for name in _LAYER),
            ]
        )
        self._parquet = _pq.ParquetWriter(binary, self._schema, compression="zstd")

    def __enter__(self) -> Self:
        """Return the file."""
        return self

    def __exit__(self, *_exception: object) -> None:
        """Complete the file but leave it open."""
        self._parquet.close()

    def write(self, trial: TrialView, layers: TrialLayers) -> None:
        """Append what a trial's layers measured, by epoch and layer."""
        nothing = (None,) * len(layers.names)
        rows: list[tuple[Any, ...]] = []
        epochs = [(m.epoch, [getattr(m, name) or nothing for name in _LAYER]) for m in layers.epochs]
        if layers.initial_norms:
            epochs.insert(0, (0, [layers.initial_norms, *[nothing] * (len(_LAYER) - 1)]))
        for epoch, columns in epochs:
            each = zip(layers.names, layers.is_scale_invariant, *columns, strict=True)
            rows += [(trial.id, trial.arm, name, known, epoch, *values) for name, known, *values in each]
        if rows:
            columns = [
                _pa.array(column, field.type)
                for column, field in zip(zip(*rows, strict=True), self._schema, strict=True)
            ]
            self._parquet.write_table(_pa.Table.from_arrays(columns, schema=self._schema))
