"""The OpenAPI description: problems of each route, bodies with shorthands, and authentication."""

__all__ = ["BODY_FAULTS", "body_description", "describe", "problem_responses"]

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from service import errors
from service.api.bodies import MoreSeeds
from service.errors import Problem, ProblemKind, problem_of
from studies.extension import Extension
from studies.labels import SuiteLabel
from studies.notes import NotesText
from studies.spec import StudySpec
from studies.webhooks import WebhookSpec

_UNUSED_SCHEMAS = frozenset({"HTTPValidationError", "ValidationError"})
_REF = "#/components/schemas/{model}"
# Any request under /v1 can meet these.
_COMMON_KINDS = (
    errors.UNAUTHENTICATED,
    errors.FORBIDDEN,
    errors.RATE_LIMITED,
    errors.HOST_REFUSED,
    errors.INTERNAL,
    errors.STORE_UNAVAILABLE,
)

BODY_FAULTS = (
    errors.NOT_JSON,
    errors.NOT_YAML,
    errors.BODY_TOO_LARGE,
    errors.TOO_MANY_BODIES,
    errors.UNSUPPORTED_MEDIA_TYPE,
    errors.SPEC_INVALID,
    errors.PARAMETER_INVALID,
)
"""The problems of a request with a study, an extension or a patch in its body."""


def problem_responses(*kinds: ProblemKind, is_open: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route: its problems, each with an example, and those of every request.

    Args:
        kinds: the problems of this route.
        is_open: True for a route that needs neither a token nor the database.
    """
    by_status: dict[int, list[ProblemKind]] = defaultdict(list)
    common = (errors.HOST_REFUSED, errors.INTERNAL) if is_open else _COMMON_KINDS
    for kind in dict.fromkeys((*kinds, *common)):
        by_status[kind.status].append(kind)
    return {status: _response(by_status[status]) for status in sorted(by_status)}


def _response(kinds: list[ProblemKind]) -> dict[str, Any]:
    examples = {
        kind.slug: {
            "summary": kind.title,
            "value": problem_of(kind, kind.example).model_dump(exclude_none=True),
        }
        for kind in kinds
    }
    content = {errors.PROBLEM_JSON: {"schema": {"$ref": _REF.format(model="Problem")}, "examples": examples}}
    return {"description": "; ".join(kind.title for kind in kinds) + ".", "content": content}


def body_description(
    description: str,
    schema: dict[str, Any],
    examples: dict[str, tuple[str, Any]],
    *,
    types: tuple[str, ...] = ("application/json", "application/yaml"),
    is_required: bool = False,
) -> dict[str, Any]:
    """Return the `openapi_extra` of a route whose body FastAPI does not read (`service.api.bodies`).

    Args:
        description: what the body contains.
        schema: its JSON schema.
        examples: a summary and a value for each name.
        types: accepted media types.
        is_required: whether the body may be left out.
    """
    by_name = {name: {"summary": summary, "value": value} for name, (summary, value) in examples.items()}
    content = {kind: {"schema": schema, "examples": by_name} for kind in types}
    return {"requestBody": {"required": is_required, "description": description, "content": content}}


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of the app's routes."""
    description = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        webhooks=app.webhooks.routes,
        tags=app.openapi_tags,
    )
    components = description.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, problem = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas |= problem["$defs"]
    # FastAPI does not read these bodies. Their schemas have shorthands, which the stored form does not have.
    body_models: list[type[BaseModel]] = [StudySpec, Extension, MoreSeeds, NotesText, SuiteLabel, WebhookSpec]
    _, bodies = models_json_schema(
        [(model, "validation") for model in body_models], ref_template="#/components/schemas/{model}-Input"
    )
    schemas |= {f"{name}-Input": schema for name, schema in bodies["$defs"].items()}
    components["schemas"] = {
        name: schema for name, schema in sorted(schemas.items()) if name not in _UNUSED_SCHEMAS
    }
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token. Not needed while no token exists and the service is local.",
        },
        "password": {
            "type": "http",
            "scheme": "basic",
            "description": "The API token as the password; the user name is ignored.",
        },
        "session": {
            "type": "apiKey",
            "in": "cookie",
            "name": "tangent",
            "description": (
                "For browsers: set by /login. With TLS its name is `__Host-tangent`, or "
                "`__Secure-tangent` below a root path."
            ),
        },
    }
    for item in description["webhooks"].values():
        for operation in item.values():
            _drop_default_422(operation["responses"])
    for path, item in description["paths"].items():
        for operation in item.values():
            _drop_default_422(operation["responses"])
            _drop_null(operation.get("parameters", ()))
            if path.startswith(("/v1", "/metrics")):
                operation["security"] = [{"token": []}, {"password": []}, {"session": []}, {}]
    return description


def _drop_null(parameters: Iterable[dict[str, Any]]) -> None:
    """Drop null from optional parameters: a query or a header cannot express it, and `null` is refused."""
    for parameter in parameters:
        match parameter["schema"]:
            case {"anyOf": [shape, {"type": "null"}], **rest}:
                parameter["schema"] = {**shape, **rest}
            case _:
                pass


def _drop_default_422(responses: dict[str, Any]) -> None:
    """Drop the 422 that FastAPI adds to every route with parameters.

    Problems replace it, and an invalid path parameter is a 404 here.
    """
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
