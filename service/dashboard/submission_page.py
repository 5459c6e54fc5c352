"""The page on which a study is written down and submitted.

Empty, as a clone of another, or as a check of one proposes it.
"""

__all__ = ["faulty_html", "refused_html", "submission_html", "submitted_spec"]

import json
from collections.abc import Sequence
from typing import Any

from service.analysis_cache import AnalysisCache
from service.api.bodies import read_json
from service.dashboard.rendering import render
from service.errors import HTTPProblem
from studies.errors import NotFound, SpecInvalid, SpecProblem
from studies.spec import StudySpec, parse_spec
from studies.store import Store
from studies.views import StudyView

_EXAMPLE = {"workload": "digits-mlp", "arms": ["adamp", "adamw"], "budget": {"trials_per_arm": 16}}


def submission_html(store: Store, analyses: AnalysisCache, *, study_id: str | None, check: int | None) -> str:
    """Return the page with a study to begin from.

    Args:
        store: where studies stand.
        analyses: what they say.
        study_id: the study to clone, or whose check proposes one; None begins with a short example.
        check: the check's place among those of the analysis.

    Raises:
        StudyNotFound: there is no such study.
        NotFound: it has no such check, or the check proposes none.
    """
    if study_id is None:
        return _page(json.dumps(_EXAMPLE, indent=2))
    study = store.study(study_id)
    if check is None:
        return _page(study.spec.model_dump_json(indent=2), of=study)
    checks = analyses.study(study_id).checks
    if not 0 <= check < len(checks) or checks[check].spec is None:
        raise NotFound(
            f"study {study_id} has no check {check} that proposes a study; its page lists those it has now"
        )
    return _page(
        json.dumps(checks[check].spec, indent=2, ensure_ascii=False), of=study, why=checks[check].sentence
    )


def submitted_spec(text: str) -> StudySpec | str:
    """Return the study that the page's text describes, or the page again with what is wrong with it."""
    try:
        return parse_spec(read_json(text.encode("utf-8", "replace")))
    except SpecInvalid as error:
        return faulty_html(text, error.problems)
    except HTTPProblem as error:
        return faulty_html(text, [SpecProblem("", error.detail)])


def faulty_html(text: str, problems: Sequence[SpecProblem]) -> str:
    """Return the page with what was written and what is wrong with it."""
    return _page(text, problems=problems)


def refused_html(text: str, reason: str) -> str:
    """Return the page with what was written and why it is not taken, sound as it may be."""
    return _page(text, refused=reason)


def _page(
    spec: str,
    *,
    of: StudyView | None = None,
    why: str | None = None,
    problems: Sequence[SpecProblem] = (),
    refused: str | None = None,
) -> str:
    context: dict[str, Any] = {"spec": spec, "of": of, "why": why, "problems": problems, "refused": refused}
    return render("new.html", **context)
