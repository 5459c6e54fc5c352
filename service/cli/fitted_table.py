"""Tables that fit the window without breaking an id or a number."""

__all__ = ["FittedTable", "facts"]

from collections.abc import Collection, Iterator, Mapping, Sequence

from rich.cells import cell_len
from rich.console import Console, ConsoleOptions, RenderResult
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from studies.formatting import ABSENT

_GAP = 2
_INDENT = 4


class FittedTable:
    """A table of which only columns of free text wrap.

    If the window is too narrow for their least widths, optional columns are left out. If that is not enough,
    free text moves below its row. If the other columns do not fit either, each row becomes a block with one
    line per column.

    Args:
        columns: the headers.
        right: headers of the columns that are aligned right, for numbers.
        text: least widths of the columns with free text, in characters, by header.
        optional: headers of columns to leave out, in this order, until the table fits.
    """

    def __init__(
        self,
        *columns: str,
        right: Collection[str] = (),
        text: Mapping[str, int] | None = None,
        optional: Sequence[str] = (),
    ) -> None:
        self._columns = columns
        self._right = right
        self._text = text or {}
        self._optional = optional
        self._rows: list[tuple[str, ...]] = []

    def add_row(self, *cells: str) -> None:
        """Add a row with one cell per column."""
        assert len(cells) == len(self._columns), f"expected {len(self._columns)} cells, got {len(cells)}"
        self._rows.append(cells)

    def __rich_console__(self, _console: Console, options: ConsoleOptions) -> RenderResult:
        """Yield the widest layout that fits."""
        window = options.max_width
        for left_out in range(len(self._optional) + 1):
            kept = [n for n, name in enumerate(self._columns) if name not in self._optional[:left_out]]
            if widths := self._widths(kept, window):
                yield self._grid(kept, widths, self._rows)
                return
        rigid = [n for n, name in enumerate(self._columns) if name not in {*self._text, *self._optional}]
        if widths := self._widths(rigid, window):
            yield from self._with_text_below(rigid, widths)
            return
        for row in self._rows:
            yield facts(dict(zip(self._columns, row, strict=True)))
            yield ""

    def _widths(self, columns: Sequence[int], window: int) -> list[int]:
        """Return the widths of columns, or nothing if they do not fit into the window."""
        natural: list[int] = []
        least: list[int] = []
        for n in columns:
            header = self._columns[n]
            widest = max((cell_len(row[n]) for row in self._rows), default=0)
            natural.append(max(widest, cell_len(header)))
            longest_word = max((cell_len(word) for word in header.split()), default=0)
            least.append(max(longest_word, min(widest, self._text.get(header, widest))))
        spare = window - _GAP * (len(columns) - 1) - sum(least)
        if spare < 0:
            return []
        # Free text needs spare width more than headers, which wrap between words.
        for is_text in (True, False):
            chosen = [i for i, n in enumerate(columns) if (self._columns[n] in self._text) is is_text]
            while spare and (growing := [i for i in chosen if least[i] < natural[i]]):
                for i in growing[:spare]:
                    least[i] += 1
                    spare -= 1
        return least

    def _grid(
        self,
        columns: Sequence[int],
        widths: Sequence[int],
        rows: Sequence[Sequence[str]],
        *,
        has_header: bool = True,
    ) -> Table:
        grid = Table(
            box=None,
            pad_edge=False,
            padding=(0, _GAP, 0, 0),
            header_style="dim",
            show_header=has_header,
        )
        for n, width in zip(columns, widths, strict=True):
            header = self._columns[n]
            grid.add_column(
                header, width=width, justify="right" if header in self._right else "left", overflow="fold"
            )
        for row in rows:
            grid.add_row(*(row[n] for n in columns))
        return grid

    def _with_text_below(self, columns: Sequence[int], widths: Sequence[int]) -> Iterator[Table | Padding]:
        yield self._grid(columns, widths, [])
        for row in self._rows:
            yield self._grid(columns, widths, [row], has_header=False)
            for n, header in enumerate(self._columns):
                if header in self._text and header not in self._optional and row[n] != ABSENT:
                    yield Padding(f"{header}: {row[n]}", (0, 0, 0, _INDENT), expand=False)


def facts(rows: Mapping[str, str]) -> Table:
    """Return a list of facts, one per row, with their names in a column of their own."""
    grid = Table(box=None, pad_edge=False, padding=(0, _GAP, 0, 0), show_header=False)
    grid.add_column(no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in rows.items():
        grid.add_row(Text(name.strip(), style="dim"), value)
    return grid
