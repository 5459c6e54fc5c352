"""Specs and plans of studies, each parsed once: reading and parsing them takes longer than all other queries.

They change only with a study's version or with the trials of its arms.
"""

__all__ = ["STAMP", "PlanCache", "Planned", "of_study", "planned", "planned_studies"]

import threading
from collections import OrderedDict
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from sqlalchemy import Connection, String, bindparam, cast, func, select

from studies.errors import StudyNotFound
from studies.resolve import ResolvedStudy
from studies.spec import StudySpec
from studies.store import tables

_A, _S = tables.arm.c, tables.study.c

STAMP: Final = (
    _S.id,
    _S.version,
    select(func.aggregate_strings(cast(_A.position, String) + ":" + cast(_A.trials, String), " "))
    .where(_A.study_id == _S.id)
    .correlate(tables.study)
    .scalar_subquery()
    .label("arm_trials"),
)
"""The columns that a study's row must have for its plan: they change whenever the plan does."""

# Each takes some hundred kilobytes.
_MAX_ENTRIES = 256


@dataclass(frozen=True)
class Planned:
    """What a study is to do.

    Attributes:
        spec: the study as it was submitted or extended.
        plan: the spec with every name looked up.
        programs: programs of best trials, and their calls of the optimizer, by trial; filled by their reader.
    """

    spec: StudySpec
    plan: ResolvedStudy
    programs: dict[str, tuple[str, str]] = field(default_factory=dict[str, tuple[str, str]])


class PlanCache:
    """The plans of one database that were used last. Safe to share between threads.

    The execution option `tangent_plans` of the database's connections holds it.
    """

    def __init__(self) -> None:
        """Make an empty cache."""
        self._lock = threading.Lock()
        self._entries: OrderedDict[Hashable, Planned] = OrderedDict()

    def get(self, key: Hashable) -> Planned | None:
        """Return the plan of this key, or None."""
        with self._lock:
            found = self._entries.get(key)
            if found is not None:
                self._entries.move_to_end(key)
            return found

    def put(self, key: Hashable, entry: Planned) -> None:
        """Keep a plan, and drop the one that was not used for longest."""
        with self._lock:
            self._entries[key] = entry
            while len(self._entries) > _MAX_ENTRIES:
                self._entries.popitem(last=False)


_OF_STUDY = select(*STAMP).where(_S.id == bindparam("study_id"))


def of_study(connection: Connection, study_id: str) -> Planned:
    """Return the spec and the plan of a study.

    Raises:
        StudyNotFound: the study does not exist.
    """
    row = connection.execute(_OF_STUDY, {"study_id": study_id}).one_or_none()
    if row is None:
        raise StudyNotFound(study_id)
    return planned(connection, row)


def planned(connection: Connection, row: Any) -> Planned:
    """Return the spec and the plan of a study whose row is known.

    Args:
        connection: an open transaction.
        row: the study's row, with the columns of `STAMP`.
    """
    return planned_studies(connection, [row])[row.id]


def planned_studies(connection: Connection, rows: Sequence[Any]) -> Mapping[str, Planned]:
    """Return the specs and plans of several studies by id, as `planned` does."""
    options = connection.get_execution_options()
    cache: PlanCache = options["tangent_plans"]
    keys = {row.id: (row.id, row.version, row.arm_trials) for row in rows}
    found = {study_id: entry for study_id, key in keys.items() if (entry := cache.get(key)) is not None}
    missing = [study_id for study_id in keys if study_id not in found]
    if missing:
        for row in connection.execute(select(_S.id, _S.spec, _S.resolved).where(_S.id.in_(missing))):
            entry = Planned(StudySpec.model_validate(row.spec), ResolvedStudy.model_validate(row.resolved))
            found[row.id] = entry
            # A transaction that writes may fail, and a later one make another plan with the same stamp.
            if not options.get("tangent_write", False):
                cache.put(keys[row.id], entry)
    return found
