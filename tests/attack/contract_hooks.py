"""Hooks for schemathesis: ids that exist, and responses that only look like violations.

`st` loads them through SCHEMATHESIS_HOOKS; CONTRACT_FACTS is the path of a JSON file with the ids.
"""

import json
import os
import re
import zlib
from pathlib import Path
from typing import Any

import schemathesis
from schemathesis.core.failures import AcceptedNegativeData, Failure, ServerError
from schemathesis.core.parameters import ParameterLocation
from schemathesis.openapi.checks import RejectedPositiveData

from service.api.etags import IF_MATCH

__all__: list[str] = []

FACTS: dict[str, list[str]] = json.loads(Path(os.environ["CONTRACT_FACTS"]).read_text(encoding="utf-8"))
# Seven of eight ids exist.
_MADE_UP = 8
_STREAM = "/v1/studies/{study_id}/events"
# Facts that a schema cannot express: names in the catalogue, current versions and keys, and which pages
# belong together.
_KNOWN_ONLY_TO_THE_RECORD = frozenset(
    {
        "/problems/spec-invalid",
        "/problems/idempotency-conflict",
        "/problems/version-conflict",
        "/problems/webhook-invalid",
        "/problems/notes-invalid",
    }
)
_SAID_OF_PARAMETERS = (
    "next_page_token",
    "appears more than once",
    "studies of one workload",
    "studies to compare",
    "arms to compare",
    "has no arm",
)
_IF_MATCH = re.compile(IF_MATCH)


@schemathesis.hook
def before_load_schema(context: Any, raw_schema: dict[str, Any]) -> None:
    """Require a token for every operation, because the attacked service has tokens."""
    del context
    for item in raw_schema["paths"].values():
        for operation in item.values():
            if "security" in operation:
                operation["security"] = [way for way in operation["security"] if way]


@schemathesis.hook
def map_case(context: Any, case: Any) -> Any:
    """Replace most generated ids and names by existing ones.

    Requests that are meant to be invalid because of an id keep it.
    """
    del context

    def is_sound(part: ParameterLocation) -> bool:
        return case.meta is None or not case.meta.is_negative_at(part)

    if is_sound(ParameterLocation.PATH):
        given: dict[str, Any] = case.path_parameters or {}
        for name, value in given.items():
            given[name] = _known(value, FACTS.get(f"{case.operation.path} {name}") or FACTS.get(name, []))
    query: dict[str, Any] = case.query or {}
    if is_sound(ParameterLocation.QUERY) and isinstance(query.get("study"), list):
        query["study"] = [_known(f"{n}{value}", FACTS["study_id"]) for n, value in enumerate(query["study"])]
    if is_sound(ParameterLocation.QUERY) and isinstance(query.get("arm"), list):
        ids = [_known(f"{n}{value}", FACTS["study_id"]) for n, value in enumerate(query["arm"])]
        query["arm"] = [f"{study_id}.adamp" for study_id in ids]
    if is_sound(ParameterLocation.BODY) and isinstance(case.body, dict):
        _use_catalogue_names(case.body)
    return case


def _known(value: Any, known: list[str]) -> Any:
    """Return an existing value for most generated values, and the generated value for the rest."""
    chance = zlib.crc32(str(value).encode("utf-8", "replace"))
    return known[chance // _MADE_UP % len(known)] if known and chance % _MADE_UP else value


def _use_catalogue_names(body: dict[str, Any]) -> None:
    """Use names of the catalogue in a study, so that the service validates more than the names."""
    if isinstance(body.get("workload"), str):
        body["workload"] = _known(body["workload"], FACTS["workload"])
    arms = body.get("arms")
    if not isinstance(arms, list):
        return
    for n, arm in enumerate(arms):
        if isinstance(arm, str):
            arms[n] = _known(arm, FACTS["optimizer"])
        elif isinstance(arm, dict) and isinstance(arm.get("optimizer"), str):
            arm["optimizer"] = _known(arm["optimizer"], FACTS["optimizer"])
            if isinstance(space := arm.get("space"), dict):
                arm["space"] = {_known(name, FACTS["hyperparameter"]): value for name, value in space.items()}


@schemathesis.hook
def before_call(context: Any, case: Any, kwargs: dict[str, Any]) -> None:
    """Request a list of events instead of a stream, except for the study that stays closed."""
    del context, kwargs
    if (
        case.operation.path == _STREAM
        and (case.path_parameters or {}).get("study_id") not in FACTS["closed_for_good"]
    ):
        case.headers = {**(case.headers or {}), "Accept": "application/json"}


@schemathesis.hook
def filter_failure(context: Any, failure: Failure, case: Any, response: Any) -> bool:
    """Return whether a reported failure is a real one."""
    del context, case
    match failure:
        case RejectedPositiveData():
            problem = response.json()
            is_of_the_record = problem["type"] in _KNOWN_ONLY_TO_THE_RECORD
            # The coverage phase removes the quotes of an ETag and then expects it to be valid.
            tag = response.request.headers.get("if-match")
            is_no_tag = tag is not None and not _IF_MATCH.fullmatch(
                tag if isinstance(tag, str) else tag.decode("latin-1")
            )
            return not (
                is_of_the_record
                or is_no_tag
                or any(words in problem["detail"] for words in _SAID_OF_PARAMETERS)
            )
        case AcceptedNegativeData():
            # HTTP servers must ignore unknown headers.
            return "x-schemathesis-unknown-property" not in response.request.headers
        case ServerError():
            # A 503 of /readyz is a normal response of a service without a dispatcher.
            return response.json()["type"] != "/problems/not-ready"
        case _:
            return True
