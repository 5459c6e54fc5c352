"""The page that submits a study: a form over the catalogue, or a text for those who prefer one."""

__all__ = [
    "StartedStudy",
    "WrittenStudy",
    "checked_study",
    "example_study",
    "started_study",
    "submission_html",
    "written_study",
]

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from service.analysis_cache import AnalysisCache
from service.dashboard.form_document import (
    MOST_FILLED,
    NotInForm,
    arms_in,
    document_of,
    fields_of,
    with_arms_in_order,
)
from service.dashboard.form_view import form_view, prefilled
from service.dashboard.rendering import render
from service.dashboard.study_fields import FIELDS, searchable_of
from service.dashboard.study_texts import study_json, study_texts
from service.errors import HTTPProblem
from service.plan_text import describe_further, describe_plan
from service.request_documents import read_document_text
from service.schemas import StudyPlan
from studies.brief_spec import brief_spec
from studies.catalog import Catalog
from studies.cluster_views import ClusterView
from studies.drafts import with_catalog_problems
from studies.errors import NotFound, SpecInvalid, SpecProblem, json_pointer
from studies.resolve import ResolvedStudy, resolve
from studies.spec import StudySpec, as_written, parse_spec
from studies.store import Store
from studies.views import StudyView

_FIRST_WORKLOAD: Final = "digits-mlp"
_FIRST_ARMS: Final = ("adamp", "adamw")
_TRIALS: Final = 16


@dataclass(frozen=True, kw_only=True)
class WrittenStudy:
    """A study as a user has written it, which may not be valid.

    Attributes:
        text: the study as text.
        fields: its fields if it is written in the form; None if it is written as text.
        document: the data in the text; None if it is not valid JSON or YAML.
        spec: the study, if it is valid.
        resolved: the same study, resolved, if the catalogue accepts it.
        problems: what is wrong with it.
        omitted: how many further faults it has.
        notice: what else the page says of it.
    """

    text: str
    fields: dict[str, str] | None = None
    document: Any = None
    spec: StudySpec | None = None
    resolved: ResolvedStudy | None = None
    problems: tuple[SpecProblem, ...] = ()
    omitted: int = 0
    notice: str = ""


@dataclass(frozen=True)
class StartedStudy:
    """The study with which the page starts.

    Attributes:
        study: the study.
        of: the study of which it is a copy or a continuation; None for an example.
        why: the sentence of the check that proposes it.
    """

    study: WrittenStudy
    of: StudyView | None = None
    why: str | None = None


def example_study(
    catalog: Catalog, *, workload: str | None, optimizer: str | None, is_text: bool
) -> StartedStudy:
    """Return a short example, of this workload and with this optimizer if they are given.

    Args:
        catalog: what can be chosen from.
        workload: name of a workload.
        optimizer: name of an optimizer.
        is_text: whether the page shows it as text.

    Raises:
        NotFound: the catalogue does not have the workload or the optimizer.
    """
    document = _example(catalog)
    if workload is not None:
        if workload not in catalog.workloads:
            raise NotFound(catalog.describe_unknown("workload", workload))
        document["workload"] = workload
    if optimizer is not None:
        if optimizer not in catalog.optimizers:
            raise NotFound(catalog.describe_unknown("optimizer", optimizer))
        document["arms"] = list(dict.fromkeys([optimizer, *reversed(document["arms"])]))[:2]
    return StartedStudy(_start(document, catalog, is_text=is_text))


def started_study(
    store: Store, analyses: AnalysisCache, *, study_id: str, check: int | None, is_text: bool
) -> StartedStudy:
    """Return the copy of a study, or the study that one of its checks proposes.

    Args:
        store: the store to read studies from.
        analyses: their analyses.
        study_id: the study.
        check: index of the check in the study's analysis; None to clone the study.
        is_text: whether the page shows it as text.

    Raises:
        StudyNotFound: the study does not exist.
        NotFound: the study has no such check, or the check proposes no study.
    """
    catalog = store.catalog()
    study = store.study(study_id)
    if check is None:
        return StartedStudy(_start(brief_spec(study.spec), catalog, is_text=is_text), study)
    checks = analyses.study(study_id).checks
    if not 0 <= check < len(checks) or checks[check].spec is None:
        raise NotFound(
            f"study {study_id} has no check {check} that proposes a study; see the checks on its page"
        )
    proposed = brief_spec(parse_spec(checks[check].spec))
    return StartedStudy(_start(proposed, catalog, is_text=is_text), study, checks[check].sentence)


def _example(catalog: Catalog) -> dict[str, Any]:
    """Return a short study of what the catalogue has."""
    fitting = [name for name, card in catalog.workloads.items() if not card.missing]
    known = [name for name in _FIRST_ARMS if name in catalog.optimizers] or list(catalog.optimizers)[:2]
    return {
        "workload": _FIRST_WORKLOAD if _FIRST_WORKLOAD in fitting or not fitting else fitting[0],
        "arms": known or list(_FIRST_ARMS),
        "budget": {"trials_per_arm": _TRIALS},
    }


def _start(document: dict[str, Any], catalog: Catalog, *, is_text: bool) -> WrittenStudy:
    text = study_json(document)
    return _parsed(WrittenStudy(text=text), catalog) if is_text else _in_form(text, document, catalog)


def written_study(form: Mapping[str, str], catalog: Catalog) -> WrittenStudy:
    """Return the study in a form that was sent, with the change that its button asks for.

    Args:
        form: the fields of the form: `spec` with a text, or one field for each value.
        catalog: what its names are looked up in.
    """
    action = form.get("do", "")
    fields = {name: text for name, text in form.items() if name.startswith("/")}
    if "spec" in form or not fields:
        text = form.get("spec", "")
        study = _parsed(WrittenStudy(text=text), catalog)
        if action != "form" or study.document is None:
            return study
        return _in_form(text, study.document, catalog)
    removed = action.removeprefix("remove-arm:")
    is_removed = removed != action and removed.isascii() and removed.isdecimal()
    fields = with_arms_in_order(fields, without=int(removed[:2]) if is_removed else None)
    if action == "add-arm":
        fields |= _new_arm(fields, form.get("add-arm", ""))
    if action.startswith("add:"):
        at = action.removeprefix("add:")
        name = form.get(f"add{at}", "")
        fields |= {f"{at}/space{json_pointer(name)}": "tune"} if name else {}
    is_large = len(fields) > MOST_FILLED
    if is_large or action == "text":
        notice = _not_shown(()) if is_large else ""
        return _parsed(WrittenStudy(text=study_json(document_of(fields)), notice=notice), catalog)
    if action or "check" in form:
        fields = prefilled(fields, catalog)
    text = study_json(document_of(fields))
    return _parsed(WrittenStudy(text=text, fields=fields), catalog)


def _new_arm(fields: Mapping[str, str], optimizer: str) -> dict[str, str]:
    """Return the fields of another arm, with a name of its own if its optimizer's is taken."""
    numbers = arms_in(fields)
    at = f"/arms/{len(numbers)}"
    taken = {fields.get(f"/arms/{n}/name", "") or fields.get(f"/arms/{n}/optimizer", "") for n in numbers}
    if optimizer not in taken:
        return {f"{at}/optimizer": optimizer}
    number = next(n for n in range(2, len(taken) + 3) if f"{optimizer}-{n}" not in taken)
    return {f"{at}/optimizer": optimizer, f"{at}/name": f"{optimizer}-{number}"}


def _in_form(text: str, document: Any, catalog: Catalog) -> WrittenStudy:
    """Return a study in the form; as text, if the form cannot show all of it."""
    try:
        fields = fields_of(document)
    except NotInForm as error:
        return _parsed(WrittenStudy(text=text, notice=_not_shown(error.pointers)), catalog)
    return _parsed(WrittenStudy(text=study_json(document_of(fields)), fields=fields), catalog)


def _not_shown(pointers: Sequence[str]) -> str:
    """Return why a study is shown as text; without pointers, because it is too large."""
    what = ", ".join(f"`{pointer}`" for pointer in pointers[:10]) or f"more than {MOST_FILLED} entries"
    return f"The form cannot show {what}, so the study is here as text, and nothing of it is lost."


def _parsed(study: WrittenStudy, catalog: Catalog) -> WrittenStudy:
    """Return a study with what its text describes, or with what is wrong with the text."""
    try:
        document = read_document_text(study.text)
    except SpecInvalid as error:
        return replace(study, problems=error.problems, omitted=error.omitted)
    except HTTPProblem as error:
        return replace(study, problems=(SpecProblem("", error.detail),))
    try:
        return replace(study, document=document, spec=parse_spec(document))
    except SpecInvalid as error:
        complete = with_catalog_problems(error, catalog)
        return replace(study, document=document, problems=complete.problems, omitted=complete.omitted)


def checked_study(study: WrittenStudy, catalog: Catalog) -> WrittenStudy:
    """Return a study with what the catalogue makes of it, or finds wrong with it.

    Raises:
        CatalogEmpty: no dispatcher has announced a catalog yet.
    """
    if study.spec is None:
        return study
    try:
        return replace(study, resolved=resolve(study.spec, catalog))
    except SpecInvalid as error:
        error = as_written(error, study.document)
        return replace(study, spec=None, problems=error.problems, omitted=error.omitted)


def submission_html(
    study: WrittenStudy,
    catalog: Catalog,
    *,
    machines: ClusterView | None,
    url: str,
    has_token: bool,
    of: StudyView | None = None,
    why: str | None = None,
    refused: str | None = None,
    is_start: bool = False,
) -> str:
    """Return the page with a study: what is wrong with it, or what it would do.

    Args:
        study: the study as it was written, and checked.
        catalog: the optimizers and workloads to choose from.
        machines: the state of the cluster, on which the time of the study depends.
        url: address of the service, for programs that submit the same study.
        has_token: whether they need a token.
        of: the study of which it is a copy or a continuation.
        why: the sentence of the check that proposes it.
        refused: why a valid study was not accepted.
        is_start: whether nothing was written yet, so that a draft may take its place.
    """
    plan: tuple[str, ...] = ()
    if study.spec is not None and study.resolved is not None:
        made = StudyPlan.of(study.spec, study.resolved, machines=machines)
        plan = (f"{describe_plan(made)}.", *describe_further(made))
    form = None if study.fields is None else form_view(study.fields, catalog, study.problems)
    context: dict[str, Any] = {
        "study": study,
        "form": form,
        "of": of,
        "why": why,
        "refused": refused,
        "is_start": is_start,
        "plan": plan,
        "texts": () if study.document is None else study_texts(study.document, url=url, has_token=has_token),
        "fields": () if form else FIELDS,
        "searchable": () if form else searchable_of(catalog),
    }
    return render("new.html", **context)
