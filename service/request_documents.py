"""The plain data in a request's body or a form: JSON or YAML, read strictly and with the same limits."""

__all__ = ["YAML_TYPES", "read_document_text", "read_request_body"]

from typing import Any, Final

from service import errors
from service.errors import HTTPProblem
from service.json_limits import TooManyValues
from service.strict_json import check_values, read_json, too_many_values
from service.strict_yaml import NotYAML, read_yaml
from studies.errors import SpecInvalid

YAML_TYPES: Final = ("application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml")
"""YAML's media type, and the names that RFC 9512 calls its aliases."""


def read_request_body(body: bytes, *, is_yaml: bool, invalid: type[SpecInvalid] = SpecInvalid) -> Any:
    """Return the plain data in a body.

    Args:
        body: the body as it was sent, in UTF-8.
        is_yaml: whether it is YAML, not JSON.
        invalid: the error for values that no field may have.

    Raises:
        HTTPProblem: the body is not valid JSON or YAML, or exceeds a limit.
        SpecInvalid: it contains values that no field may have.
    """
    if not is_yaml:
        return read_json(body, invalid=invalid)
    try:
        data = read_yaml(body)
    except NotYAML as error:
        raise HTTPProblem(errors.NOT_YAML, f"the body is {error}") from None
    except TooManyValues as error:
        raise too_many_values(error) from None
    except SpecInvalid as error:
        raise invalid(error.problems) from None
    check_values(data, invalid=invalid)
    return data


def read_document_text(text: str) -> Any:
    """Return the plain data in a text that a user wrote: JSON or YAML.

    If the text starts with `{` and is neither, the error is JSON's.

    Raises:
        HTTPProblem, SpecInvalid: see `read_request_body`.
    """
    body = text.encode("utf-8", "replace")
    if not text.lstrip("\ufeff \t\r\n").startswith("{"):
        return read_request_body(body, is_yaml=True)
    try:
        return read_request_body(body, is_yaml=False)
    except HTTPProblem as error:
        # In YAML, an object in braces needs no quotes.
        try:
            return read_request_body(body, is_yaml=True)
        except HTTPProblem:
            raise error from None
