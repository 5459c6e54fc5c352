"""The API's description: problems where they can occur, bodies with their shorthands.

Also the two ways to bring a token.
"""

__all__ = ["describe", "problem_responses"]

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
from studies.spec import StudySpec
from studies.webhooks import WebhookSpec

_FASTAPIS_OWN = frozenset({"HTTPValidationError", "ValidationError"})
_REF = "#/components/schemas/{model}"
# Any request under /v1 can meet these.
_EVERYWHERE = (
    errors.UNAUTHENTICATED,
    errors.FORBIDDEN,
    errors.RATE_LIMITED,
    errors.HOST_REFUSED,
    errors.INTERNAL,
    errors.STORE_UNAVAILABLE,
)


def problem_responses(*kinds: ProblemKind, is_open: bool = False) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` of a route.

    These kinds of problem, each with an example, besides those that any request can meet.

    Args:
        kinds: what this route's own work can run into.
        is_open: True for a route that asks for no token and no database.
    """
    by_status: dict[int, list[ProblemKind]] = defaultdict(list)
    everywhere = (errors.HOST_REFUSED, errors.INTERNAL) if is_open else _EVERYWHERE
    for kind in dict.fromkeys((*kinds, *everywhere)):
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


def describe(app: FastAPI) -> dict[str, Any]:
    """Return the OpenAPI description of the app's routes."""
    described = get_openapi(
        title=app.title,
        version=app.version,
        summary=app.summary,
        description=app.description,
        routes=app.routes,
        webhooks=app.webhooks.routes,
        tags=app.openapi_tags,
    )
    components = described.setdefault("components", {})
    schemas = components.setdefault("schemas", {})
    _, problem = models_json_schema([(Problem, "serialization")], ref_template=_REF)
    schemas |= problem["$defs"]
    # Bodies are read by hand, for messages better than FastAPI's; their schemas have shorthands that the
    # stored form lacks.
    read_by_hand: list[type[BaseModel]] = [StudySpec, Extension, MoreSeeds, WebhookSpec]
    _, submission = models_json_schema(
        [(model, "validation") for model in read_by_hand], ref_template="#/components/schemas/{model}-Input"
    )
    schemas |= {f"{name}-Input": schema for name, schema in submission["$defs"].items()}
    components["schemas"] = {
        name: schema for name, schema in sorted(schemas.items()) if name not in _FASTAPIS_OWN
    }
    components["securitySchemes"] = {
        "token": {
            "type": "http",
            "scheme": "bearer",
            "description": "An API token; not needed while no token exists and only this machine can call.",
        },
        "password": {
            "type": "http",
            "scheme": "basic",
            "description": "The API token as password; the user name does not matter.",
        },
    }
    components["securitySchemes"]["session"] = {
        "type": "apiKey",
        "in": "cookie",
        "name": "tangent",
        "description": (
            "For browsers: set by /login, after the token was shown there. Behind "
            "TLS it is called `__Host-tangent`."
        ),
    }
    for item in described["webhooks"].values():
        for operation in item.values():
            _drop_default_422(operation["responses"])
    for path, item in described["paths"].items():
        for operation in item.values():
            _drop_default_422(operation["responses"])
            _drop_null(operation.get("parameters", ()))
            if path.startswith(("/v1", "/metrics")):
                operation["security"] = [{"token": []}, {"password": []}, {"session": []}, {}]
    return described


def _drop_null(parameters: Iterable[dict[str, Any]]) -> None:
    """Drop the null of parameters that may be left out.

    No query and no header can send one, and the word `null` is refused.
    """
    for parameter in parameters:
        match parameter["schema"]:
            case {"anyOf": [shape, {"type": "null"}], **rest}:
                parameter["schema"] = {**shape, **rest}
            case _:
                pass


def _drop_default_422(responses: dict[str, Any]) -> None:
    """Drop the answer that FastAPI describes wherever there are parameters.

    Where only the path has them, it is a 404 here.
    """
    if "application/json" in responses.get("422", {}).get("content", {}):
        del responses["422"]
