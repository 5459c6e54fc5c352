"""Writes the table of docs/reliability.md from the rows of docs/reliability.jsonl."""

__all__ = ["LEDGER", "PAGE", "page_with", "table"]

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from cluster.faults import FAULTS
from cluster.ledger import Row, read

_ROOT = Path(__file__).parents[2]
LEDGER = _ROOT / "docs" / "reliability.jsonl"
PAGE = _ROOT / "docs" / "reliability.md"
_BEGIN, _END = "<!-- table: written by scripts/reliability-table -->", "<!-- end of table -->"
_OTHERS = {
    "stop": "a study is stopped",
    "cancel": "a study is cancelled",
    "stop-while-cut": "a study is stopped while a worker node is unreachable",
    "cancel-while-cut": "a study is cancelled while a worker node is unreachable",
    "trial-dies": "one trial of four kills its process in every attempt",
    "trial-hangs": "one trial of four hangs in every attempt (`epoch_timeout_s` is 5)",
    "trial-out-of-memory": "one trial of four needs more memory than its node has, in every attempt",
    "disk-full-for-good": "the checkpoints' disk stays full",
}
_HEAD = (
    "fault",
    "times",
    "passed",
    "noticed",
    "resumed",
    "trials requeued",
    "retries charged",
    "epochs lost",
    "epochs kept",
    "slowest response",
)
_DECIMALS_BELOW = 10


def table(rows: Sequence[Row]) -> str:
    """Return the table of all faults, in order, and the load of the machine below it."""
    lines = [_line(_HEAD), _line(["---"] * len(_HEAD))]
    for name, description in {
        **{name: fault.description for name, fault in FAULTS.items()},
        **_OTHERS,
    }.items():
        mine = [row for row in rows if row.fault == name]
        if mine:
            lines.append(_line([description, *_cells(mine)]))
    loads = [row.load for row in rows]
    return "\n".join(
        [
            *lines,
            "",
            (
                "One-minute load average of the machine when the faults were injected: "
                f"{median(loads):g} / {max(loads):g}."
            ),
        ]
    )


def page_with(text: str, written: str) -> str:
    """Return a page with its table replaced."""
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    return f"{before}{_BEGIN}\n\n{written}\n\n{_END}{after}"


def _cells(rows: Sequence[Row]) -> list[str]:
    kept = sum(not row.broken for row in rows)
    return [
        str(len(rows)),
        str(kept),
        _seconds([row.noticed_s for row in rows]),
        _seconds([row.resumed_s for row in rows]),
        *(
            _count([getattr(row, name) for row in rows])
            for name in ("requeued", "retries", "lost_epochs", "kept_epochs")
        ),
        _seconds([row.slowest_s for row in rows]),
    ]


def _seconds(values: Sequence[float | None]) -> str:
    known = [value for value in values if value is not None]
    return f"{_number(median(known))} / {_number(max(known))} s" if known else "–"


def _count(values: Sequence[int]) -> str:
    return f"{median(values):g} / {max(values)}"


def _number(value: float) -> str:
    return f"{value:.1f}" if value < _DECIMALS_BELOW else f"{value:.0f}"


def _line(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Write the page."""
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), table(read(LEDGER))), encoding="utf-8")


if __name__ == "__main__":
    main()
