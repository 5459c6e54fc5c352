"""Domain errors: one documented tree, and messages that can be sent as JSON."""

import re
from typing import Any

import pytest

from studies import errors
from studies.errors import TangentError, json_pointer, shown

__all__: list[str] = []

CLASSES = [
    value for value in vars(errors).values() if isinstance(value, type) and issubclass(value, TangentError)
]


@pytest.mark.parametrize("error", CLASSES)
def test_every_error_is_exported_and_listed_in_the_modules_tree(
    error: type[TangentError],
) -> None:
    assert error.__name__ in errors.__all__
    assert re.search(rf"\b{error.__name__}\b", errors.__doc__ or "")


@pytest.mark.parametrize(
    ("steps", "pointer"),
    [
        ((), ""),
        (("arms", 0, "space", "lr"), "/arms/0/space/lr"),
        (("a/b", "~c"), "/a~1b/~0c"),
        (("",), "/"),
        (("\ud800é",), "/?é"),
    ],
)
def test_a_pointer_is_an_rfc_6901_pointer_that_can_be_sent(
    steps: tuple[int | str, ...], pointer: str
) -> None:
    assert json_pointer(*steps) == pointer
    json_pointer(*steps).encode()


def cyclic() -> list[Any]:
    value: list[Any] = []
    value.append(value)
    return value


def deep() -> list[Any]:
    value: list[Any] = []
    for _ in range(10_000):
        value = [value]
    return value


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.1, "0.1"),
        ("a\0\ud800", r"'a\x00\ud800'"),
        ("x" * 100, "'" + "x" * 76 + "..."),
        (cyclic(), "[[...]]"),
        (deep(), "a list too large to show"),
        (10**5000, "a number too large to show"),
    ],
    ids=["number", "text", "long", "cyclic", "deep", "huge"],
)
def test_any_value_can_be_quoted(value: object, text: str) -> None:
    assert shown(value) == text
