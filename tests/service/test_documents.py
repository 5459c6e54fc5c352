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
    ],
)
def test_json_and_yaml_read_the_same(tmp_path: Path, name: str, text: str) -> None:
    assert read_document(put(tmp_path, name, text)) == STUDY


def test_a_dash_reads_standard_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(AS_YAML.encode())))
    assert read_document("-") == STUDY


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("s.json", '{"a": 1,', "line 1, column 9: "),
        ("s.json", '{"a": 1, "a": 2}', "the key 'a' appears twice"),
        ("s.json", '{"a": NaN}', "NaN is not a JSON number"),
        ("s.json", "[" * 100_000, "is nested too deeply"),
        ("s.yaml", "a: [1\nb: 2", "line 2, column 2: "),
        ("s.json", '{"a": 1e999}', "1e999 is too large"),
        ("s.yaml", "a: 1\nb: 2\na: 3", "/a: line 3: "),
    ],
)
def test_a_syntax_error_names_its_line_and_column(
    tmp_path: Path, name: str, text: str, expected: str
) -> None:
    path = put(tmp_path, name, text)
    with pytest.raises(DocumentInvalid) as caught:
        read_document(path)
    assert path in str(caught.value)
    assert expected in str(caught.value)


def test_a_missing_or_binary_file_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "s.json").write_bytes(b"\xff\xfe")
    for path, expected in (
        (tmp_path / "none.json", "no such file or directory"),
        (tmp_path, "is a directory"),
        (tmp_path / "s.json", "not UTF-8 text"),
    ):
        with pytest.raises(DocumentInvalid, match=expected):
            read_document(str(path))
