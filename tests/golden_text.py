"""Golden texts: whole outputs kept in files, so that wording is reviewed in one place.

To rewrite them after a deliberate change of wording, run the test with `UPDATE_GOLDEN=1` and review
the diff:

    UPDATE_GOLDEN=1 .venv/bin/python -m pytest tests/service/test_cli_golden.py
"""

__all__ = ["assert_golden"]

import os
from pathlib import Path


def assert_golden(path: Path, text: str) -> None:
    """Assert that a text equals the file at `path`, or write the file if UPDATE_GOLDEN is set."""
    if os.environ.get("UPDATE_GOLDEN"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        return
    assert text == path.read_text(encoding="utf-8"), (
        f"the wording of {path.name} changed; if that is intended, rerun this test with UPDATE_GOLDEN=1"
    )
