"""The fields of the form of a study, made from the models, so that the form has all that a study has."""

__all__ = ["ARMS_AFTER", "SECTIONS", "FieldKind", "FormField", "FormSection"]

from dataclasses import dataclass
from typing import Any, Final, Literal, cast, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from studies.budget import Budget
from studies.errors import json_pointer
from studies.objective import Objective
from studies.paired_search import PairedSearch, UntilDecided
from studies.pruner import Asha, Hyperband, Median, PrunerName
from studies.resources import Resources
from studies.spec import Confirmation, Keep, StudySpec, Training

FieldKind = Literal["text", "value", "words", "flag", "choice", "pairs"]


@dataclass(frozen=True)
class FormField:
    """One field with one value.

    Attributes:
        pointer: JSON pointer to the value, which is the field's name in the form.
        kind: how the value is written: as it is, as a scalar, as words between commas, yes or no, one of a
            few, or as pairs of arms.
        label: what the page calls it.
        meaning: what it does, in a sentence or two.
        default: what holds if it is left empty; empty if that is not one value.
        options: the values of a choice.
    """

    pointer: str
    kind: FieldKind
    label: str
    meaning: str
    default: str = ""
    options: tuple[str, ...] = ()


@dataclass(frozen=True)
class FormSection:
    """Fields under one heading.

    Attributes:
        name: the section's id on the page.
        title: its heading.
        fields: its fields.
        is_foldable: whether it is folded up until one of its fields is filled in.
    """

    name: str
    title: str
    fields: tuple[FormField, ...]
    is_foldable: bool = False


_KINDS: Final[dict[Any, FieldKind]] = {bool: "flag", str: "text", int: "value", float: "value"}
_LABELS: Final = {
    "/name": "Name",
    "/workload": "Workload",
    "/budget/replicates": "Replicates of each search",
    "/search/replicates": "Replicates that count",
    "/confirmation/seeds": "Seeds of the confirmation",
    "/confirmation/solo": "Confirm alone",
    "/pruner/kind": "Pruner",
    "/search/until/max_pairs": "Until decided: most pairs",
    "/search/until/pairs": "Until decided: pairs of arms",
    "/search/until/drop_losers": "Until decided: drop losers",
    "/keep/weights": "Keep weights",
    "/keep/files": "Keep files",
    "/keep/days": "Keep for days",
    "/objective/at": "Epoch that counts",
}
# Of several numbers that depend on the rest of the study, or not a value that a user would write.
_WITHOUT_DEFAULT: Final = frozenset({"/name", "/search/paired", "/search/replicates"})
_FEWER_WORDS: Final = {
    "/name": "By default made from the arms and the workload.",
    "/search/verdict_at": (
        "The arms are compared after this many tuning trials each. At most a quarter of the pairs; by "
        "default an eighth, at least 2. With fewer than 8 pairs there is no such verdict."
    ),
    "/search/until/pairs": "As in adamp/adamw, adamp/sgdp; by default every pair.",
    "/pruner/kind": "How hopeless trials are stopped early; none trains every trial to its last epoch.",
}


def _fields(of: type[BaseModel], *names: str, under: str = "") -> tuple[FormField, ...]:
    """Return the fields of a model, all or those named, whose values are under a pointer."""
    return tuple(
        _field(f"{under}{json_pointer(name)}", field)
        for name, field in of.model_fields.items()
        if not names or name in names
    )


def _field(pointer: str, field: FieldInfo) -> FormField:
    kind, options = _written_as(field.annotation)
    default = None if field.is_required() or pointer in _WITHOUT_DEFAULT else field.default
    if isinstance(default, bool):
        default = "yes" if default else "no"
    return FormField(
        pointer,
        kind,
        _LABELS.get(pointer, pointer.rpartition("/")[2].replace("_", " ").capitalize()),
        _FEWER_WORDS.get(pointer, field.description or ""),
        "" if default in (None, ()) else str(default),
        options,
    )


def _written_as(annotation: Any) -> tuple[FieldKind, tuple[str, ...]]:
    """Return how values of a type are written, and the values of a choice."""
    if get_origin(annotation) is Literal:
        return "choice", cast("tuple[str, ...]", get_args(annotation))
    if get_origin(annotation) is tuple:
        return "words", ()
    if annotation in _KINDS:
        return _KINDS[annotation], ()
    # One or none.
    return _written_as(next(part for part in get_args(annotation) if part is not type(None)))


_PRUNER_KIND: Final = FormField(
    "/pruner/kind",
    "choice",
    _LABELS["/pruner/kind"],
    _FEWER_WORDS["/pruner/kind"],
    "none",
    get_args(PrunerName),
)
_PRUNER: Final = tuple(
    {
        field.pointer: field
        for rule in (Median, Hyperband, Asha)
        for field in _fields(rule, under="/pruner")
        if field.pointer != "/pruner/kind"
    }.values()
)
_PAIRS: Final = FormField(
    "/search/until/pairs", "pairs", _LABELS["/search/until/pairs"], _FEWER_WORDS["/search/until/pairs"]
)

SECTIONS: Final = (
    FormSection("study", "Study", _fields(StudySpec, "name", "workload")),
    FormSection(
        "budget",
        "Budget",
        (*_fields(Budget, under="/budget"), *_fields(Confirmation, under="/confirmation")),
    ),
    FormSection(
        "search",
        "Search and verdict",
        (
            *_fields(StudySpec, "sampler"),
            *_fields(PairedSearch, "paired", "verdict_at", under="/search"),
            *_fields(UntilDecided, "max_pairs", under="/search/until"),
            _PAIRS,
            *_fields(UntilDecided, "drop_losers", under="/search/until"),
            *_fields(PairedSearch, "replicates", under="/search"),
        ),
    ),
    FormSection("pruner", "Pruner", (_PRUNER_KIND, *_PRUNER), is_foldable=True),
    FormSection("objective", "What counts", _fields(Objective, under="/objective"), is_foldable=True),
    FormSection(
        "training", "Training of every trial", _fields(Training, under="/training"), is_foldable=True
    ),
    FormSection(
        "resources",
        "Machines",
        (
            *_fields(Resources, under="/resources"),
            *_fields(StudySpec, "check_workload", "max_retries"),
        ),
        is_foldable=True,
    ),
    FormSection("keep", "Files to keep", _fields(Keep, under="/keep"), is_foldable=True),
    FormSection("labels", "Labels and seed", _fields(StudySpec, "suite", "tags", "seed"), is_foldable=True),
)
"""All fields but those of arms and spaces, which the form has after `ARMS_AFTER`."""

ARMS_AFTER: Final = "study"
"""Name of the section that arms and the study's space follow."""
