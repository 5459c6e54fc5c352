"""The page that submits a study: an example to edit, a clone of a study, or the proposal of a check."""

__all__ = [
    "checked_html",
    "new_study_html",
    "refused_html",
    "submission_html",
    "submitted_spec",
    "unresolved_html",
]

import json
from collections.abc import Sequence
from typing import Any

from service.analysis_cache import AnalysisCache
from service.dashboard.rendering import render
from service.dashboard.study_fields import FIELDS, searchable_of
from service.errors import HTTPProblem
from service.plan_text import describe_decision_costs, describe_plan
from service.request_documents import read_document_text
from service.schemas import StudyPlan
from studies.drafts import with_catalog_problems
from studies.errors import NotFound, SpecInvalid, SpecProblem
from studies.resolve import resolve
from studies.spec import StudySpec, as_written, parse_spec, to_copy
from studies.store import Store
from studies.views import StudyView

_EXAMPLE: dict[str, Any] = {
    "workload": "digits-mlp",
    "arms": ["adamp", "adamw"],
    "budget": {"trials_per_arm": 16},
}


def new_study_html(store: Store, *, workload: str | None, optimizer: str | None) -> str:
    """Return the page with a short example, of this workload and with this optimizer if they are given.

    Raises:
        NotFound: the catalogue does not have the workload or the optimizer.
    """
    catalog = store.catalog()
    spec = dict(_EXAMPLE)
    if workload is not None:
        if workload not in catalog.workloads:
            raise NotFound(catalog.describe_unknown("workload", workload))
        spec["workload"] = workload
    if optimizer is not None:
        if optimizer not in catalog.optimizers:
            raise NotFound(catalog.describe_unknown("optimizer", optimizer))
        spec["arms"] = list(dict.fromkeys([optimizer, "adamw", "adamp"]))[:2]
    return _page(store, json.dumps(spec, indent=2))


def submission_html(store: Store, analyses: AnalysisCache, *, study_id: str, check: int | None) -> str:
    """Return the page with a study to start from.

    Args:
        store: the store to read studies from.
        analyses: their analyses.
        study_id: the study to clone, or the one whose check proposes a study.
        check: index of the check in the study's analysis; None to clone the study.

    Raises:
        StudyNotFound: the study does not exist.
        NotFound: the study has no such check, or the check proposes no study.
    """
    study = store.study(study_id)
    if check is None:
        return _page(store, json.dumps(to_copy(study.spec), indent=2, ensure_ascii=False), of=study)
    checks = analyses.study(study_id).checks
    if not 0 <= check < len(checks) or checks[check].spec is None:
        raise NotFound(
            f"study {study_id} has no check {check} that proposes a study; see the checks on its page"
        )
    return _page(
        store,
        json.dumps(checks[check].spec, indent=2, ensure_ascii=False),
        of=study,
        why=checks[check].sentence,
    )


def submitted_spec(text: str, store: Store) -> StudySpec | str:
    """Return the study that the submitted text describes, or the page with the text and its problems."""
    try:
        return parse_spec(read_document_text(text))
    except SpecInvalid as error:
        complete = with_catalog_problems(error, store.catalog())
        return _page(store, text, problems=complete.problems, omitted=complete.omitted)
    except HTTPProblem as error:
        return _page(store, text, problems=[SpecProblem("", error.detail)])


def unresolved_html(store: Store, text: str, error: SpecInvalid) -> str:
    """Return the page with the submitted text and what the catalogue finds wrong with its study."""
    error = as_written(error, read_document_text(text))
    return _page(store, text, problems=error.problems, omitted=error.omitted)


def checked_html(store: Store, text: str, spec: StudySpec) -> str:
    """Return the page with the submitted text and what its study would do; nothing is stored.

    Raises:
        SpecInvalid, CatalogEmpty: the catalogue refuses the study.
    """
    plan = StudyPlan.of(spec, resolve(spec, store.catalog()))
    return _page(store, text, plan=(f"{describe_plan(plan)}.", *describe_decision_costs(plan)))


def refused_html(store: Store, text: str, reason: str) -> str:
    """Return the page with the submitted text and why a valid study was not accepted."""
    return _page(store, text, refused=reason)


def _page(
    store: Store,
    spec: str,
    *,
    of: StudyView | None = None,
    why: str | None = None,
    problems: Sequence[SpecProblem] = (),
    omitted: int = 0,
    refused: str | None = None,
    plan: Sequence[str] = (),
) -> str:
    context: dict[str, Any] = {
        "spec": spec,
        "of": of,
        "why": why,
        "problems": problems,
        "omitted": omitted,
        "refused": refused,
        "plan": plan,
        "fields": FIELDS,
        "searchable": searchable_of(store.catalog()),
    }
    return render("new.html", **context)
