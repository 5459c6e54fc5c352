"""YAML is read by the rules of version 1.2, as JSON's values, with limits and the line of every fault."""

import json
import time
from pathlib import Path

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from service.json_limits import TooManyValues
from service.strict_json import MAX_DEPTH, MAX_MEMBERS
from service.strict_yaml import NotYAML, read_yaml
from studies.errors import SpecInvalid

__all__: list[str] = []


@pytest.mark.parametrize(
    ("written", "value"),
    [
        ("1e-4", 1e-4),
        ("1E5", 1e5),
        ("1.5e-3", 1.5e-3),
        ("-2e3", -2e3),
        (".5", 0.5),
        ("5.", 5.0),
        ("12", 12),
        ("+12", 12),
        ("012", 12),
        ("0o14", 12),
        ("0x1F", 31),
        ("1:30", "1:30"),
        ("1_000", "1_000"),
        ("0b1", "0b1"),
        ("e12", "e12"),
        ("1.2.3", "1.2.3"),
        ("true", True),
        ("False", False),
        ("on", "on"),
        ("Off", "Off"),
        ("yes", "yes"),
        ("no", "no"),
        ("y", "y"),
        ("null", None),
        ("~", None),
        ("", None),
        ("none", "none"),
        ("'012'", "012"),
        ('"2026-01-01"', "2026-01-01"),
        ("2026-01", "2026-01"),
        ("!!str 12", "12"),
        ("!!float 3", 3.0),
        ("|\n  two\n  lines", "two\nlines"),
        ("123456789012345678901", 1.2345678901234568e20),
    ],
)
def test_a_scalar_is_read_by_the_core_schema_of_yaml_1_2(written: str, value: object) -> None:
    read = read_yaml(f"lr: {written}".encode())["lr"]
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("a: 1\nb: {c: 2026-01-01}", [("/b/c", 2)]),
        ("a: [1, 2026-1-1 10:00:00]", [("/a/1", 1)]),
        ("a: 2026-01-01T10:00:00Z", [("/a", 1)]),
        ("a:\n  b: !!set {x, y}", [("/a/b", 2)]),
        ("a: !!binary aGk=", [("/a", 1)]),
        ("a: !!omap [x: 1]", [("/a", 1)]),
        ("a: !!python/object/apply:os.getcwd []", [("/a", 1)]),
        ("a: !!int x", [("/a", 1)]),
        ("a: .nan\nb: -.inf\nc: 1e400", [("/a", 1), ("/b", 2), ("/c", 3)]),
        ("a: 1\nb: {c: 1,\n  c: 2}", [("/b/c", 3)]),
        ("a/b: 1\na/b: 2", [("/a~1b", 2)]),
        ('a: "x\\u202Ey"', [("/a", 1)]),
        ('"x\\u0000": 1', [("/x\0", 1)]),
        ("<<: 3", [("/<<", 1)]),
    ],
)
def test_a_value_that_json_lacks_is_refused_with_its_line_and_field(
    text: str, faults: list[tuple[str, int]]
) -> None:
    with pytest.raises(SpecInvalid) as caught:
        read_yaml(text.encode())
    found = [(fault.pointer, fault.message.partition(":")[0]) for fault in caught.value.problems]
    assert found == [(pointer, f"line {line}") for pointer, line in faults]


@pytest.mark.parametrize("text", ["a: 2026-01-01", "a: !!binary aGk=", "a: !!set {x}"])
def test_dates_sets_and_binary_data_get_the_advice_to_add_quotes(text: str) -> None:
    with pytest.raises(SpecInvalid, match="quotes"):
        read_yaml(text.encode())


def test_a_key_is_text_as_it_is_written() -> None:
    assert read_yaml(b"{1: a, true: b, 1.0: c, ~: d, on: e, 2026-01-01: f}") == {
        "1": "a",
        "true": "b",
        "1.0": "c",
        "~": "d",
        "on": "e",
        "2026-01-01": "f",
    }


@pytest.mark.parametrize(
    ("text", "line"),
    [
        (b"a: [1\nb: 2", 2),
        (b"a: b: c", 1),
        (b"a: 1\n---\nb: 2", 2),
        (b"a: 1\nb: *c", 2),
        (b"a: &a [*a]", 1),
        (b"a: 1\n? [b]\n: 2", 2),
        (b"a: &b 5\n*b : 1", 2),
        (b"", None),
        (b"# nothing\n", None),
        (b"a: \x01", None),
        (b"a: \xff", None),
        ("a: 1".encode("utf-16"), None),
    ],
)
def test_a_text_that_is_not_one_document_is_refused_with_the_line(text: bytes, line: int | None) -> None:
    with pytest.raises(NotYAML) as caught:
        read_yaml(text)
    assert caught.value.line == line


def test_aliases_and_merges_are_replaced_by_what_they_stand_for() -> None:
    text = (
        b"s: &s {lr: 0.1, eps: 1}\nt: &t {lr: 0.3, beta: 2}\na: {<<: *s, lr: 0.2}\nb: {<<: [*s, *t]}\nc: *s"
    )
    assert read_yaml(text) == {
        "s": {"lr": 0.1, "eps": 1},
        "t": {"lr": 0.3, "beta": 2},
        "a": {"lr": 0.2, "eps": 1},
        "b": {"lr": 0.1, "eps": 1, "beta": 2},
        "c": {"lr": 0.1, "eps": 1},
    }


def test_a_byte_order_mark_is_ignored() -> None:
    assert read_yaml("\ufeffa: 1".encode()) == {"a": 1}


LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 25))
HOSTILE = {
    "aliases of aliases": LAUGHS,
    "an alias that deepens": "a0: &a0 [x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 40)),
    "merges of merges": "a0: &a0 {x: 1}\n"
    + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 25)),
    "deep lists in a line": "[" * 300_000,
    "deep lists in closed pairs": "[[]," * 250_000,
    "deep dashes": "- " * 300_000,
    "deep keys": "? " * 300_000,
    "many members": "[" + "1," * 500_000 + "]",
    "many empty objects": "[" + "{}," * 330_000 + "]",
    "many dates": "- 2026-01-01\n" * 70_000,
    "many documents": "---\n" * 250_000,
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_text_is_refused_in_a_fraction_of_a_second(name: str) -> None:
    began = time.process_time()
    with pytest.raises((NotYAML, SpecInvalid, TooManyValues)) as caught:
        read_yaml(HOSTILE[name].encode())
    assert time.process_time() - began < 2.0
    assert len(str(caught.value)) < 30_000


def test_the_limits_are_those_of_json() -> None:
    assert read_yaml(("[" * MAX_DEPTH + "]" * MAX_DEPTH).encode())
    assert len(read_yaml(f"[{'1,' * (MAX_MEMBERS - 1)}]".encode())) == MAX_MEMBERS - 1
    with pytest.raises(NotYAML):
        read_yaml(("[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1)).encode())
    with pytest.raises(TooManyValues):
        read_yaml(f"[{'1,' * MAX_MEMBERS}]".encode())


def test_the_parser_is_the_fast_one() -> None:
    # The one in Python takes half a minute for a body of 1 MiB.
    assert yaml.__with_libyaml__


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**17), 10**17)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.text(st.characters(min_codepoint=32, max_codepoint=126)), inner, max_size=4)
    ),
    max_leaves=20,
)


@given(JSON)
def test_json_reads_as_itself(value: object) -> None:
    assert read_yaml(json.dumps(value).encode()) == value


def test_examples_read_as_json_reads_them() -> None:
    for path in sorted((Path(__file__).parents[2] / "examples").glob("*.json")):
        assert read_yaml(path.read_bytes()) == json.loads(path.read_bytes())
