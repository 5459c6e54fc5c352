"""/metrics: what Prometheus scrapes."""

__all__ = ["metrics_router"]

import hashlib
import threading
import time
from collections import OrderedDict

from fastapi import APIRouter, Request, Response
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4
from starlette.responses import PlainTextResponse

from service.api.openapi import problem_responses
from service.auth import authorize
from service.metrics import Metrics
from studies.errors import NotPermitted, StoreUnavailable

# Longer than a restart of the database, or the night until somebody looks.
_TRUSTED_FOR_S = 3600.0
_MOST_TRUSTED = 64


class _Admitted:
    """Who was permitted to scrape a little while ago.

    Without its database a service can check no token, and then is when it is watched.
    """

    def __init__(self) -> None:
        self._until: OrderedDict[bytes, float] = OrderedDict()
        self._lock = threading.Lock()

    def is_permitted(self, request: Request) -> bool:
        """Return True for a caller that the record permits.

        Return False for one that it permitted before it stopped answering.

        Raises:
            Unauthenticated, Forbidden: as `permitted` does.
            StoreUnavailable: the database does not answer, and the caller is not known.
        """
        # Nothing that could be sent again by whoever reads the memory of the process.
        shown = "\0".join(request.headers.get(name, "") for name in ("authorization", "cookie"))
        who = hashlib.sha256(shown.encode("utf-8", "replace")).digest()
        now = time.monotonic()
        try:
            authorize(request)
        except StoreUnavailable:
            if self._until.get(who, now) <= now:
                raise
            return False
        except NotPermitted:
            with self._lock:
                self._until.pop(who, None)
            raise
        with self._lock:
            self._until[who] = now + _TRUSTED_FOR_S
            self._until.move_to_end(who)
            if len(self._until) > _MOST_TRUSTED:
                self._until.popitem(last=False)
        return True


def metrics_router() -> APIRouter:
    """Return the route; with tokens it needs a viewer's.

    Prometheus sends it as `authorization: {credentials: …}`.
    """
    router = APIRouter(tags=["health"])
    admitted = _Admitted()

    @router.get(
        "/metrics",
        response_class=PlainTextResponse,
        summary="Metrics for Prometheus",
        response_description="Prometheus's text format, version 0.0.4.",
        responses=problem_responses(),
    )
    def get_metrics(request: Request) -> Response:
        """Return what the service counts.

        Studies and trials by state, the queue, epochs, requests, transactions, streams, dispatchers.

        While the database does not answer, a scraper that was let in within the last hour is told of the
        process alone, with `tangent_database_up 0`.
        """
        metrics: Metrics = request.app.state.metrics
        body = metrics.render(request.app.state.store if admitted.is_permitted(request) else None)
        return Response(body, headers={"cache-control": "no-store"}, media_type=CONTENT_TYPE_PLAIN_0_0_4)

    _ = get_metrics
    return router
