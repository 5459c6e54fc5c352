"""What machinery asks: /healthz, is the process up.

/readyz, can studies be submitted and will they be run.
"""

__all__ = ["health_router"]

import logging
from collections.abc import Mapping
from datetime import UTC, datetime

from fastapi import APIRouter, Request

from service import errors
from service.api.openapi import problem_responses
from service.errors import HTTPProblem
from service.metrics import count_live_dispatchers
from service.schemas import Health, Readiness
from studies.errors import StoreUnavailable
from studies.formatting import duration
from studies.store import Store

_LOG = logging.getLogger("tangent.service")
_CATALOGUE = "a catalogue: no dispatcher has announced optimizers and workloads"


def _readiness(store: Store) -> Readiness:
    """Return what is there.

    Raises:
        Refusal: something is missing; names all of it.
        StoreUnavailable: the database does not answer, so nothing else is known.
    """
    found, needed = store.revisions()
    if found is None or found != needed:
        # What its tables hold cannot be asked for by their names of today.
        raise _not_ready((_revision(found, needed),))
    catalog = store.catalog()
    seen = store.dispatchers()
    count = count_live_dispatchers(seen)
    missing = (() if catalog.optimizers and catalog.workloads else (_CATALOGUE,)) + (
        () if count else (_dispatcher(seen),)
    )
    if missing:
        raise _not_ready(missing)
    return Readiness(
        optimizers=len(catalog.optimizers),
        workloads=len(catalog.workloads),
        dispatchers=count,
        dispatcher_seen_at=max(seen.values()),
        revision=found,
    )


def _revision(found: str | None, needed: str | None) -> str:
    if found is not None and needed is not None and found > needed:
        return (
            f"a service of the database's version: that is at revision {found}, and "
            f"this one knows {needed}; upgrade it"
        )
    is_at = "has no tables yet" if found is None else f"is at revision {found}"
    return (
        f"the tables of this version: the database {is_at} and {needed} is needed; `tangent migrate` of "
        "the newer version brings it there"
    )


def _dispatcher(seen: Mapping[str, datetime]) -> str:
    advice = "start one with `tangent up` or `python -m workers`"
    if not seen:
        return f"a dispatcher: none runs; {advice}"
    # Not by its name, which is that of a machine: nobody is asked for a token here.
    ago = duration((datetime.now(UTC) - max(seen.values())).total_seconds()).replace(
        "\N{NO-BREAK SPACE}", " "
    )
    return f"a dispatcher: the last was heard of {ago} ago; {advice}"


def _not_ready(missing: tuple[str, ...]) -> HTTPProblem:
    return HTTPProblem(
        errors.NOT_READY,
        f"not ready, for it lacks {'; and '.join(missing)}",
        missing=missing,
        headers={"retry-after": "5"},
    )


def health_router(version: str) -> APIRouter:
    """Return the two routes; neither asks for a token.

    Args:
        version: version of the service.
    """
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz",
        response_model=Health,
        summary="Is the process up",
        responses=problem_responses(is_open=True),
    )
    async def get_health() -> Health:
        """Return at once, whatever the database does."""
        return Health(version=version)

    @router.get(
        "/readyz",
        response_model=Readiness,
        summary="Can studies be run",
        responses=problem_responses(errors.NOT_READY, is_open=True),
    )
    def get_readiness(request: Request) -> Readiness:
        """Return when the database, a catalogue and a dispatcher are there.

        The database answers at the right revision, a catalogue was announced and a dispatcher lives.

        Else a problem whose `missing` names each that is not so.
        """
        store: Store = request.app.state.store
        try:
            return _readiness(store)
        except StoreUnavailable as error:
            _LOG.error("%s", error)
            raise _not_ready(("a database that answers",)) from error

    _ = get_health, get_readiness
    return router
