"""Reading studies from files, and the errors for files that cannot be read."""

import io
import json
from pathlib import Path

import pytest

from service.documents import DocumentInvalid, read_document

__all__: list[str] = []

STUDY = {
    "workload": "digits-mlp",
    "arms": [{"optimizer": "adamp", "space": {"lr": {"low": 1e-4, "high": 0.1, "log": True}}}],
}
AS_YAML = """
workload: digits-mlp
arms:
  - optimizer: adamp
    space:
      lr: {low: 1e-4, high: 0.1, log: true}
"""


def put(folder: Path, name: str, text: str) -> str:
    """Return the path of a new file."""
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return str(path)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("s.json", json.dumps(STUDY)),
        ("s.yaml", AS_YAML),
        ("s.yml", AS_YAML),
        ("s", AS_YAML),
        ("s", json.dumps(STUDY)),
        ("s", json.dumps(STUDY).replace('"', "")),
    ],
)
def test_json_and_yaml_read_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read_document(put(tmp_path, name, text)) == STUDY


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(AS_YAML.encode())))
    assert read_document("-") == STUDY


@pytest.mark.parametrize(
    ("name", "text", "pointer", "where"),
    [
        ("s.json", '{"a": 1,', "", "line 1, column 9"),
        ("s.json", '{"a": 1, "a": 2}', "/a", "twice"),
        ("s.json", '{"a": [NaN]}', "/a/0", "nan"),
        ("s.json", '{"a": 1e999}', "/a", "inf"),
        ("s.json", "[" * 100_000, "", "32 levels"),
        ("s.json", '{"a":' + " " * (1 << 20), "", "1 MiB"),
        ("s", '{"a": 1,', "", "line 1, column 9"),
        ("s", '{"a": NaN}', "/a", "nan"),
        ("s", "{a: 1, a: 2}", "/a", "twice"),
        ("s.yaml", "a: [1\nb: 2", "", "line 2, column 2"),
        ("s.yaml", "a: 1\nb: 2\na: 3", "/a", "line 3"),
        ("s.yaml", "a: {b: 2026-01-01}", "/a/b", "line 1"),
    ],
)
def test_a_fault_is_reported_with_the_file_and_its_place(
    tmp_path: Path, name: str, text: str, pointer: str, where: str
) -> None:
    path = put(tmp_path, name, text)
    with pytest.raises(DocumentInvalid) as caught:
        read_document(path)
    (problem,), (sentence,) = caught.value.problems, caught.value.sentences
    assert problem.pointer == pointer
    assert where in problem.message
    assert sentence.startswith(f"{path}: ")


def test_a_missing_or_binary_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(b"\xff\xfe")
    for path, expected in (
        (tmp_path / "none.json", "no such file or directory"),
        (tmp_path, "is a directory"),
        (tmp_path / "s.json", "not valid UTF-8"),
    ):
        with pytest.raises(DocumentInvalid, match=expected):
            read_document(str(path))
