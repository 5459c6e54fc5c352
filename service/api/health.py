"""Probes: /healthz tells whether the process is up, /readyz whether submitted studies will be run."""

__all__ = ["health_router"]

import logging

from fastapi import APIRouter, Request

from service import errors
from service.api.openapi import problem_responses
from service.dispatcher_health import DispatcherHealth
from service.errors import HTTPProblem
from service.schemas import Health, Readiness
from studies.errors import StoreUnavailable
from studies.store import Store

_LOG = logging.getLogger("tangent.service")
_CATALOGUE = "a catalogue: no dispatcher has announced optimizers and workloads"


def _readiness(store: Store) -> Readiness:
    """Return the state of a service that is ready.

    Raises:
        HTTPProblem: something is missing; its detail names all of it.
        StoreUnavailable: the database does not answer, so nothing else is known.
    """
    found, needed = store.revisions()
    if found is None or found != needed:
        # The other queries need the tables of this version.
        raise _not_ready((_describe_revision(found, needed),))
    catalog = store.catalog()
    dispatchers = DispatcherHealth.of(store.dispatchers())
    missing = (() if catalog.optimizers and catalog.workloads else (_CATALOGUE,)) + (
        () if dispatchers.missing is None else (dispatchers.missing,)
    )
    if missing or dispatchers.seen_at is None:
        raise _not_ready(missing)
    return Readiness(
        optimizers=len(catalog.optimizers),
        workloads=len(catalog.workloads),
        dispatchers=dispatchers.alive,
        dispatcher_problems=dispatchers.problems,
        broken_packages=catalog.broken,
        dispatcher_seen_at=dispatchers.seen_at,
        revision=found,
    )


def _describe_revision(found: str | None, needed: str) -> str:
    if found is not None and found > needed:
        return (
            f"a service of the database's version: the database is at revision {found}, and "
            f"this service needs {needed}; upgrade the service"
        )
    current = "has no tables yet" if found is None else f"is at revision {found}"
    return (
        f"the tables of this version: the database {current}, and this service needs {needed}; run "
        "`tangent migrate` of this version"
    )


def _not_ready(missing: tuple[str, ...]) -> HTTPProblem:
    return HTTPProblem(
        errors.NOT_READY,
        f"not ready; missing: {'; and '.join(missing)}",
        missing=missing,
        headers={"retry-after": "5"},
    )


def health_router(version: str) -> APIRouter:
    """Return the two routes, which need no token.

    Args:
        version: version of the service.
    """
    router = APIRouter(tags=["health"])

    @router.get(
        "/healthz",
        response_model=Health,
        summary="Whether the process is up",
        responses=problem_responses(is_open=True),
    )
    async def get_health() -> Health:
        """Return at once, whatever the state of the database."""
        return Health(version=version)

    @router.get(
        "/readyz",
        response_model=Readiness,
        summary="Whether studies can be run",
        responses=problem_responses(errors.NOT_READY, is_open=True),
    )
    def get_readiness(request: Request) -> Readiness:
        """Return the state of a service that is ready.

        It is ready if the database answers and is at the right revision, there is a catalogue, and a
        dispatcher that can start runs had a heartbeat in the last 30 seconds. Otherwise the response is a
        problem whose `missing` lists everything that is missing.
        """
        store: Store = request.app.state.store
        try:
            return _readiness(store)
        except StoreUnavailable as error:
            _LOG.error("%s", error)
            raise _not_ready(("a database that answers",)) from error

    _ = get_health, get_readiness
    return router
