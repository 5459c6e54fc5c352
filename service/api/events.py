"""A study's events, as a stream of server-sent events or as JSON."""

__all__ = ["EventQuery", "event_router"]

from typing import Annotated

from fastapi import APIRouter, Header, Query, Request, Response
from fastapi.sse import EventSourceResponse
from pydantic import Field
from starlette.types import Receive, Scope, Send

from service import errors
from service.api.openapi import problem_responses
from service.api.parameters import StudyId
from service.api.responses import json_response
from service.auth import CurrentActor, is_still_authorized
from service.errors import HTTPProblem
from service.event_streams import EventStreams
from service.schemas import EventList
from studies.actors import Actor
from studies.frozen_model import FrozenModel
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store

_STREAM = "text/event-stream"
_EXAMPLE = (
    "event: trial.finished\n"
    'data: {"id":7,"kind":"trial.finished","at":"2026-11-21T12:00:00Z",'
    '"data":{"trial":"k3f9x2db.adamp.0","arm":"adamp","number":0,'
    '"state":"completed","value":0.97,"reason":null}}\n'
    "id: 7\n\n"
)

# The schema of each event, not of the whole stream, as in OpenAPI 3.2 and in FastAPI's own streams.
_EVENT = {
    "type": "object",
    "properties": {
        "event": {"type": "string", "description": "Kind of the event."},
        "data": {
            "type": "string",
            "contentMediaType": "application/json",
            "contentSchema": {"$ref": "#/components/schemas/EventView"},
        },
        "id": {
            "type": "string",
            "pattern": "^[0-9]+$",
            "description": "Number of the event, for `Last-Event-ID`.",
        },
        "retry": {
            "type": "integer",
            "minimum": 0,
            "description": "Milliseconds to wait before reconnecting.",
        },
    },
}

LastEventId = Annotated[
    int | None,
    Header(
        alias="Last-Event-ID",
        ge=0,
        lt=2**31,
        description="Number of the last event that the reader has; overrides `after`. Browsers send it.",
    ),
]


class EventQuery(FrozenModel):
    """Which events to read."""

    after: int = Field(default=0, ge=0, lt=2**31, description="Only events with a number above this.")
    page_size: int = Field(default=500, ge=1, le=500, description="Most events in the list; only for JSON.")


class _EventStream(EventSourceResponse):
    """A response that counts as an open stream until its reader disconnects."""

    def __init__(
        self, request: Request, reader: Actor, study_id: str, *, after: int, is_closed: bool
    ) -> None:
        self._streams: EventStreams = request.app.state.streams
        self._reader = reader.name
        content = self._streams.frames(
            request.app.state.store,
            study_id,
            after=after,
            is_closed=is_closed,
            may_read=lambda: is_still_authorized(request),
        )
        super().__init__(content, headers={"cache-control": "no-store", "x-accel-buffering": "no"})

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._streams.count_open(self._reader):
            await super().__call__(scope, receive, send)


def event_router() -> APIRouter:
    """Return the route."""
    router = APIRouter(tags=["studies"])

    @router.get(
        "/studies/{study_id}/events",
        response_model=EventList,
        summary="Events of a study",
        response_description="A stream of server-sent events, or with `Accept: application/json` a list.",
        responses={
            200: {"content": {_STREAM: {"itemSchema": _EVENT, "example": _EXAMPLE}}},
            204: {"description": "The study is closed and the reader has all its events: do not reconnect."},
            **problem_responses(errors.STUDY_NOT_FOUND, errors.PARAMETER_INVALID, errors.TOO_MANY_STREAMS),
        },
    )
    def list_events(
        request: Request,
        reader: CurrentActor,
        study_id: StudyId,
        query: Annotated[EventQuery, Query()],
        last_event_id: LastEventId = None,
    ) -> Response:
        """Stream a study's events as they happen.

        Each event has its number as `id`, its kind as `event` and itself as JSON in `data`.

        Kinds: `study.submitted`, `study.state`, `study.extended` (with what was added), `study.noted` (with
        the `version` of the new notes, who wrote them and how long they are), `trial.started`,
        `trial.requeued`, `trial.promoted` (from one rung of the pruner to the next, with `from_epoch` and
        `to_epoch`), `trial.finished` (in any state, including pruned) and `progress`. The `phase` of a trial
        distinguishes the search from the confirmation.

        The stream sends a heartbeat at least every 15 seconds and ends after the last event of a closed
        study. A reader that was disconnected continues with `Last-Event-ID` and misses no event. With
        `Accept: application/json` the response is a list of the events so far.
        """
        store: Store = request.app.state.store
        streams: EventStreams = request.app.state.streams
        after = query.after if last_event_id is None else last_event_id
        accepted = request.headers.get("accept", "")
        # Read before the events, so that a closed study's last event is among them.
        is_closed = store.state(study_id) in CLOSED_STUDY_STATES
        if "application/json" in accepted and _STREAM not in accepted:
            items = store.events(study_id, after=after, limit=query.page_size)
            is_last = is_closed and len(items) < query.page_size
            found = EventList(items=items, after=items[-1].id if items else after, is_last=is_last)
            return json_response(found)
        if is_closed and not store.events(study_id, after=after, limit=1):
            return Response(status_code=204)
        reason = streams.refusal_reason(reader.name)
        if reason is not None:
            raise HTTPProblem(
                errors.TOO_MANY_STREAMS,
                f"{reason}; close one or ask for application/json",
                headers={"retry-after": "10"},
            )
        return _EventStream(request, reader, study_id, after=after, is_closed=is_closed)

    _ = list_events
    return router
