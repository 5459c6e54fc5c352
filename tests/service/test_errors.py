"""The table of errors: every domain error has its kind of problem."""

import inspect
import pickle

import pytest

from service.errors import KIND_BY_ERROR, KINDS, kind_of, problem_of
from studies import errors
from studies.errors import SpecInvalid, SpecProblem

__all__: list[str] = []

CLASSES = [
    value
    for value in vars(errors).values()
    if inspect.isclass(value) and issubclass(value, errors.TangentError)
]


@pytest.mark.parametrize("error", CLASSES, ids=lambda error: error.__name__)
def test_every_domain_error_has_its_own_kind(error: type[errors.TangentError]) -> None:
    assert error in KIND_BY_ERROR
    assert 400 <= KIND_BY_ERROR[error].status < 600


def test_no_two_errors_share_a_kind() -> None:
    slugs = [kind.slug for kind in KIND_BY_ERROR.values()]
    assert len(slugs) == len(set(slugs))


def test_the_table_has_no_removed_errors() -> None:
    assert set(KIND_BY_ERROR) == set(CLASSES)


def test_an_error_outside_the_table_has_its_parents_kind() -> None:
    class Other(errors.VersionConflict):
        pass

    assert kind_of(Other) is KIND_BY_ERROR[errors.VersionConflict]


def test_slugs_never_change() -> None:
    # Clients compare with these: one may be added, none renamed.
    assert {slug: kind.status for slug, kind in KINDS.items()} == {
        "internal-error": 500,
        "spec-invalid": 422,
        "not-found": 404,
        "study-not-found": 404,
        "arm-not-found": 404,
        "trial-not-found": 404,
        "suite-not-found": 404,
        "token-not-found": 404,
        "webhook-not-found": 404,
        "webhook-invalid": 422,
        "notes-invalid": 422,
        "illegal-move": 409,
        "conflict": 409,
        "version-conflict": 412,
        "idempotency-conflict": 422,
        "superseded": 409,
        "catalog-empty": 503,
        "not-permitted": 403,
        "unauthenticated": 401,
        "forbidden": 403,
        "not-owner": 403,
        "quota-exceeded": 403,
        "store-unavailable": 503,
        "parameter-invalid": 422,
        "method-not-allowed": 405,
        "not-json": 400,
        "not-yaml": 400,
        "body-too-large": 413,
        "unsupported-media-type": 415,
        "host-refused": 421,
        "artifact-not-found": 404,
        "artifact-unavailable": 503,
        "range-invalid": 416,
        "cross-site": 403,
        "not-ready": 503,
        "too-many-bodies": 503,
        "analysis-pending": 503,
        "too-many-streams": 503,
        "rate-limited": 429,
    }


def test_a_problem_has_the_errors_message_and_fields() -> None:
    error = errors.IllegalMove("cannot pause", state="completed", allowed=("stop",))
    problem = problem_of(kind_of(type(error)), error=error)
    assert problem.model_dump(exclude_none=True) == {
        "type": "/problems/illegal-move",
        "title": KINDS["illegal-move"].title,
        "status": 409,
        "detail": "cannot pause",
        "state": "completed",
        "allowed": ("stop",),
    }


def test_an_invalid_study_lists_a_hundred_faults_and_counts_the_others() -> None:
    error = SpecInvalid([SpecProblem(f"/{n}", "wrong") for n in range(250)])
    assert (len(error.problems), error.omitted) == (100, 150)
    again = pickle.loads(pickle.dumps(error))
    assert (again.problems, again.omitted, str(again)) == (error.problems, 150, str(error))
