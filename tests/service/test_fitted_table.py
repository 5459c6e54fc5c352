"""Tables never break an id or a number, whatever the width of the window."""

import io

import pytest
from rich.console import Console

from service.cli.fitted_table import FittedTable, facts

__all__: list[str] = []

IDS = ["3f9a2c1d.adamp.0", "3f9a2c1d.adamp-without-decay.137"]
NUMBERS = ["97.72 %", "−1,234.5 to +0.36"]
WORDS = "lr=0.001 beta1=0.9 weight_decay=0.01 nesterov=false"


def _table() -> FittedTable:
    made = FittedTable("trial", "test accuracy", "95 % interval", "note", right=(), text={"note": 12})
    for name in IDS:
        made.add_row(name, *NUMBERS, WORDS)
    return made


def _printed(width: int) -> list[str]:
    out = Console(file=io.StringIO(), width=width, color_system=None)
    out.print(_table())
    assert isinstance(out.file, io.StringIO)
    return [line.rstrip() for line in out.file.getvalue().splitlines()]


@pytest.mark.parametrize("width", [50, 60, 70, 80, 100, 130, 10_000])
def test_ids_and_numbers_stay_whole_and_lines_fit_the_window(width: int) -> None:
    lines = _printed(width)
    for whole in (*IDS, *NUMBERS):
        assert any(whole in line for line in lines), (whole, lines)
    assert max(len(line) for line in lines) <= width
    # No word is lost or broken, wherever free text went.
    text = " ".join(" ".join(lines).split())
    assert all(text.count(word) == len(IDS) for word in WORDS.split())


def test_in_a_wide_window_a_row_is_one_line() -> None:
    assert len(_printed(10_000)) == 1 + len(IDS)


def test_free_text_moves_below_its_row_before_rows_become_blocks() -> None:
    lines = _printed(70)
    below = [number for number, line in enumerate(lines) if line.strip().startswith("note: lr=0.001")]
    assert [lines[number - 1].split()[0] for number in below] == IDS
    narrow = _printed(50)
    assert [line.split()[0] for line in narrow if line][:4] == ["trial", "test", "95", "note"]


def test_an_empty_table_shows_its_header() -> None:
    out = Console(file=io.StringIO(), width=80, color_system=None)
    out.print(FittedTable("id", "state"))
    assert isinstance(out.file, io.StringIO)
    assert out.file.getvalue().split() == ["id", "state"]


def test_facts_wrap_their_values_only() -> None:
    out = Console(file=io.StringIO(), width=30, color_system=None)
    out.print(facts({"configuration": WORDS}))
    assert isinstance(out.file, io.StringIO)
    lines = out.file.getvalue().splitlines()
    assert lines[0].startswith("configuration  lr=0.001")
    assert len(lines) > 1
