"""What machinery asks: /healthz, is the process up; /readyz, can studies be submitted and will they be run."""

__all__ = ["health_router"]

import logging
from datetime import UTC, datetime, timedelta

from fastapi import APIRouter, Request

from service import errors
from service.answers import Health, Readiness
from service.api.openapi import may_answer
from service.problems import Refusal
from studies.errors import StoreUnavailable
from studies.store import Store

_LOG = logging.getLogger("tangent.service")
_HEARD_WITHIN = timedelta(seconds=30)


def _readiness(store: Store) -> Readiness:
    """Return what is there.

    Raises:
        Refusal: something is missing; names all of it.
        StoreUnavailable: the database does not answer, so nothing else is known.
    """
    catalog = store.catalog()
    alive = sum(datetime.now(UTC) - at < _HEARD_WITHIN for at in store.dispatchers().values())
    missing = tuple(
        what
        for what, is_there in (
            ("a catalogue: no dispatcher has announced optimizers and workloads", bool(catalog.optimizers and catalog.workloads)),
            ("a dispatcher: none was heard of in the last 30 s; start one with `tangent up` or `python -m workers`", alive > 0),
        )
        if not is_there
    )
    if missing:
        raise _not_ready(missing)
    return Readiness(optimizers=len(catalog.optimizers), workloads=len(catalog.workloads), dispatchers=alive)


def _not_ready(missing: tuple[str, ...]) -> Refusal:
    return Refusal(errors.NOT_READY, f"not ready, for it lacks {'; and '.join(missing)}", missing=missing, headers={"retry-after": "5"})


def health_router(version: str) -> APIRouter:
    """Return the two routes; neither asks for a token.

    Args:
        version: version of the service.
    """
    router = APIRouter(tags=["health"])

    @router.get("/healthz", response_model=Health, summary="Is the process up", responses=may_answer(is_open=True))
    async def get_health() -> Health:
        """Return at once, whatever the database does."""
        return Health(version=version)

    @router.get("/readyz", response_model=Readiness, summary="Can studies be run", responses=may_answer(errors.NOT_READY, is_open=True))
    def get_readiness(request: Request) -> Readiness:
        """Return when the database answers, a catalogue was announced and a dispatcher lives; else a problem that says what is missing."""
        store: Store = request.app.state.store
        try:
            return _readiness(store)
        except StoreUnavailable as error:
            _LOG.error("%s", error)
            raise _not_ready(("a database that answers",)) from error

    _ = get_health, get_readiness
    return router
