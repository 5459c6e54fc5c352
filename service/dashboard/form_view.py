"""What the form of a study shows: its fields with what was typed, and each fault at its field."""

__all__ = ["FormView", "form_view", "prefilled"]

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from service.dashboard.form_document import (
    DIMENSION_PARTS,
    arms_in,
    fields_of,
    names_in_space,
    text_of,
)
from service.dashboard.form_fields import SECTIONS, FormField, FormSection
from service.dashboard.trial_page import describe_dimension
from studies.brief_spec import brief_dimension
from studies.catalog import Catalog, Hyperparameter, OptimizerCard, WorkloadCard
from studies.errors import SpecProblem, json_pointer
from studies.formatting import scalar
from studies.searchable import GROUPS, groups_of, is_optimizers_own, searchable
from studies.training_settings import TRAINING_HYPERPARAMETERS

_WAYS: Final = {
    "fixed": "one value",
    "range": "a range",
    "choices": "a few values",
    "tune": "the card's range",
    "pair": "two values",
}
_SCALES: Final = (("", "linear"), ("log", "log"), ("integer", "whole numbers"), ("log integer", "whole, log"))
_UNSAFE: Final = re.compile(r"[^\w./-]", re.ASCII)

Option = tuple[str, str]


@dataclass(frozen=True)
class Control:
    """One input of the form.

    Attributes:
        name: its name, a JSON pointer.
        id: its id on the page.
        label: what the page calls it.
        value: what was typed.
        faults: what is wrong with it.
        options: values of a choice with their texts; empty for a text.
        meaning: what it does.
        default: what holds if it is left empty.
    """

    name: str
    id: str
    label: str
    value: str
    faults: tuple[str, ...]
    options: tuple[Option, ...] = ()
    meaning: str = ""
    default: str = ""


@dataclass(frozen=True)
class DimensionRow:
    """One dimension of a space.

    Attributes:
        way: how it is written.
        parts: its numbers, each with the way to which it belongs.
        usual: what the card says.
        meaning: what it does.
        is_added: whether a user added it; the others are all of a card.
        faults: what is wrong with any of its inputs.
    """

    way: Control
    parts: tuple[tuple[str, Control], ...]
    usual: str
    meaning: str
    is_added: bool
    faults: tuple[str, ...]


@dataclass(frozen=True)
class ArmForm:
    """One arm.

    Attributes:
        number: its place, from 0.
        title: its name, or its optimizer's.
        optimizer: the choice of its optimizer.
        name: its own name.
        rows: its dimensions.
        addable: names that can be added to its space.
    """

    number: int
    title: str
    optimizer: Control
    name: Control
    rows: tuple[DimensionRow, ...]
    addable: tuple[Option, ...]


@dataclass(frozen=True)
class SectionView:
    """Fields under one heading.

    Attributes:
        name: the section's id on the page.
        title: its heading.
        controls: its fields.
        is_foldable: whether it is folded up until a field is filled in.
        is_open: whether a field is filled in, or faulty.
    """

    name: str
    title: str
    controls: tuple[Control, ...]
    is_foldable: bool
    is_open: bool


@dataclass(frozen=True)
class FormView:
    """The whole form.

    Attributes:
        sections: fields by section.
        arms: the arms.
        space: the study's own dimensions.
        addable: names that can be added to the study's space.
        optimizers: optimizers that can be added as arms.
        missing: what the chosen workload lacks, and how to add that; empty if nothing.
        ids: the id of the field of each fault's pointer, if it has one.
    """

    sections: tuple[SectionView, ...]
    arms: tuple[ArmForm, ...]
    space: tuple[DimensionRow, ...]
    addable: tuple[Option, ...]
    optimizers: tuple[Option, ...]
    missing: str
    ids: dict[str, str]


def _id(name: str) -> str:
    return "field" + _UNSAFE.sub(lambda match: f"_{ord(match[0]):x}", name)


def prefilled(fields: Mapping[str, str], catalog: Catalog) -> dict[str, str]:
    """Return the fields with the card's own values where a way to write a dimension was just chosen.

    A way that the page has shown already has lost its values to the user, who wants others.
    """
    found = dict(fields)
    for at, cards in _spaces(fields, catalog):
        for name in names_in_space(fields, at):
            pointer = f"{at}/space{json_pointer(name)}"
            way, card = fields.get(pointer, ""), cards.get(name)
            parts = [f"{pointer}/{part}" for part in DIMENSION_PARTS.get(way, ())]
            is_new = fields.get(f"{pointer}/listed") != way
            if card is None or not parts or not is_new or any(part in fields for part in parts):
                continue
            found |= _card_texts(pointer, way, card)
    return found


def _card_texts(pointer: str, way: str, card: Hyperparameter) -> dict[str, str]:
    """Return the fields of a card's own dimension, or of its default, if it can be written in this way."""
    if way == "fixed":
        return {f"{pointer}/value": text_of(card.default)}
    texts = fields_of({"space": {"it": brief_dimension(card.search.model_dump(mode="json"))}})
    if texts["/space/it"] != way:
        return {}
    return {pointer + name.removeprefix("/space/it"): text for name, text in texts.items()}


def _spaces(fields: Mapping[str, str], catalog: Catalog) -> Iterator[tuple[str, dict[str, Hyperparameter]]]:
    """Yield the pointer above each space, with the cards of the names that it may have."""
    workload = catalog.workloads.get(fields.get("/workload", ""))
    yield "", _shared(workload, catalog)
    for n in arms_in(fields):
        card = catalog.optimizers.get(fields.get(f"/arms/{n}/optimizer", ""))
        yield f"/arms/{n}", {} if card is None else _of_arm(card, workload)


def _of_arm(card: OptimizerCard, workload: WorkloadCard | None) -> dict[str, Hyperparameter]:
    return {h.name: h for h in card.hyperparameters} | searchable(workload, card, {})


def _shared(workload: WorkloadCard | None, catalog: Catalog) -> dict[str, Hyperparameter]:
    """Return what every arm can search beside its optimizer: for groups, what any optimizer has for them."""
    found = {h.name: h for h in TRAINING_HYPERPARAMETERS}
    for card in catalog.optimizers.values():
        found |= searchable(workload, card, {})
    return found


def form_view(fields: Mapping[str, str], catalog: Catalog, problems: Sequence[SpecProblem]) -> FormView:
    """Return what the form shows.

    Args:
        fields: text by name, with the arms in order.
        catalog: the optimizers and workloads to choose from.
        problems: what is wrong with the study.
    """
    return _Viewing(fields, catalog, problems).view()


class _Viewing:
    """Builds the view; faults are placed at the innermost field that their pointers have."""

    def __init__(self, fields: Mapping[str, str], catalog: Catalog, problems: Sequence[SpecProblem]) -> None:
        self._fields = fields
        self._catalog = catalog
        self._workload = catalog.workloads.get(fields.get("/workload", ""))
        self._cards = dict(_spaces(fields, catalog))
        names = list(self._names())
        self._faults: dict[str, list[str]] = {}
        self._ids: dict[str, str] = {}
        for problem in problems:
            name = _place(problem.pointer, names)
            if name is not None:
                self._faults.setdefault(name, []).append(problem.message)
                self._ids[problem.pointer] = _id(name)

    def view(self) -> FormView:
        """Return the view."""
        card = self._workload
        groups = {name: f"{card.title} ({name})" for name, card in self._catalog.optimizers.items()}
        return FormView(
            sections=tuple(map(self._section, SECTIONS)),
            arms=tuple(self._arm(n) for n in arms_in(self._fields)),
            space=self._rows(""),
            addable=self._addable(""),
            optimizers=tuple(groups.items()),
            missing="" if card is None else card.missing,
            ids=self._ids,
        )

    def _names(self) -> Iterator[str]:
        """Yield the names of all fields that can be seen."""
        for section in SECTIONS:
            yield from (field.pointer for field in section.fields)
        for at in self._cards:
            if at:
                yield from (f"{at}/optimizer", f"{at}/name")
            for name in self._names_of_rows(at):
                pointer = f"{at}/space{json_pointer(name)}"
                yield pointer
                parts = DIMENSION_PARTS.get(self._fields.get(pointer, ""), ())
                yield from (f"{pointer}/{part}" for part in parts)

    def _names_of_rows(self, at: str) -> list[str]:
        own = [name for name in self._cards[at] if at and is_optimizers_own(name)]
        return list(dict.fromkeys([*own, *names_in_space(self._fields, at)]))

    def _control(self, name: str, label: str, **given: Any) -> Control:
        faults = tuple(self._faults.get(name, ()))
        return Control(name, _id(name), label, self._fields.get(name, ""), faults, **given)

    def _section(self, section: FormSection) -> SectionView:
        controls = tuple(map(self._field, section.fields))
        is_used = any(control.value or control.faults for control in controls)
        return SectionView(section.name, section.title, controls, section.is_foldable, is_used)

    def _field(self, field: FormField) -> Control:
        options: tuple[Option, ...] = tuple((value, value) for value in field.options)
        default = self._default(field)
        if field.kind == "flag":
            options = (("true", "yes"), ("false", "no"))
        if field.pointer == "/workload":
            options = tuple(map(_workload_option, self._catalog.workloads.values()))
        elif options:
            options = (("", f"default: {default}" if default else "default"), *options)
        return self._control(
            field.pointer,
            field.label,
            options=self._with_own(options, field.pointer),
            meaning=self._meaning(field),
            default="" if options else default,
        )

    def _meaning(self, field: FormField) -> str:
        card = self._workload
        return card.description if card is not None and field.pointer == "/workload" else field.meaning

    def _default(self, field: FormField) -> str:
        card = self._workload
        if card is None:
            return field.default
        own = {
            "/budget/epochs": str(card.epochs),
            "/training/batch_size": str(card.batch_size),
            "/objective/metric": card.metric,
        }
        return own.get(field.pointer, field.default)

    def _with_own(self, options: tuple[Option, ...], name: str) -> tuple[Option, ...]:
        """Return the options of a choice with the value that it has, which may be none of them."""
        value = self._fields.get(name, "")
        is_known = not options or not value or value in dict(options)
        return options if is_known else (*options, (value, f"{value} (unknown)"))

    def _arm(self, n: int) -> ArmForm:
        at = f"/arms/{n}"
        options = tuple(
            (card.name, f"{card.title} ({card.name})") for card in self._catalog.optimizers.values()
        )
        optimizer = self._fields.get(f"{at}/optimizer", "")
        return ArmForm(
            n,
            self._fields.get(f"{at}/name", "") or optimizer,
            self._control(f"{at}/optimizer", "Optimizer", options=self._with_own(options, f"{at}/optimizer")),
            self._control(f"{at}/name", "Name in this study", default=optimizer),
            self._rows(at),
            self._addable(at),
        )

    def _rows(self, at: str) -> tuple[DimensionRow, ...]:
        return tuple(self._row(at, name) for name in self._names_of_rows(at))

    def _row(self, at: str, name: str) -> DimensionRow:
        pointer = f"{at}/space{json_pointer(name)}"
        card = self._cards[at].get(name)
        is_added = not at or not is_optimizers_own(name) or card is None
        value = self._fields.get(pointer, "")
        ways = [way for way in _WAYS if way != "pair" or value == "pair"]
        if value == "pair":
            ways = ["pair"]
        none = "left out" if is_added else "as on the card"
        options: tuple[Option, ...] = (("", none), *((way, _WAYS[way]) for way in ways))
        way = self._control(pointer, name, options=self._with_own(options, pointer))
        parts = tuple((of, self._part(pointer, name, part)) for of in ways for part in DIMENSION_PARTS[of])
        shown = [way, *(control for of, control in parts if of == value)]
        return DimensionRow(
            way,
            parts,
            "" if card is None else _usual(card),
            "" if card is None else card.description,
            is_added,
            tuple(fault for control in shown for fault in control.faults),
        )

    def _part(self, pointer: str, name: str, part: str) -> Control:
        return self._control(
            f"{pointer}/{part}",
            {"low": "from", "high": "to", "scale": "scale", "choices": "values", "values": "values"}.get(
                part, "value"
            ),
            options=_SCALES if part == "scale" else (),
            meaning=name,
        )

    def _addable(self, at: str) -> tuple[Option, ...]:
        there = set(self._names_of_rows(at))
        names = [name for name in self._cards[at] if not is_optimizers_own(name) and name not in there]
        if self._workload is not None:
            # What users look for first.
            first = tuple(f"{GROUPS}{group}." for group in groups_of(self._workload))
            names.sort(key=lambda name: name.startswith(first))
        return tuple((name, name) for name in names)


def _place(pointer: str, names: Sequence[str]) -> str | None:
    """Return the name of the field at which a fault is shown; None if it is one of the whole study."""
    while pointer:
        if pointer in names:
            return pointer
        below = next((name for name in names if name.startswith(f"{pointer}/")), None)
        if below is not None:
            return below
        pointer = pointer.rpartition("/")[0]
    return None


def _workload_option(card: WorkloadCard) -> Option:
    lacks = ", cannot be trained here" if card.missing else ""
    return card.name, f"{card.title} ({card.name}){lacks}"


def _usual(card: Hyperparameter) -> str:
    """Return what a card says of a hyperparameter that a study leaves out, or may set."""
    searched = describe_dimension(card.search)
    if card.follows is not None:
        return f"that of {card.follows}; usual range {searched}"
    if card.tuned:
        return f"searched over {searched}"
    return f"fixed at {scalar(card.default)}; usual range {searched}"
