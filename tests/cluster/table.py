"""Writes the tables of docs/reliability.md from the rows of docs/reliability*.jsonl."""

__all__ = ["LEDGER", "ONE_MACHINE_LEDGER", "PAGE", "one_machine_table", "page_with", "table"]

from collections.abc import Sequence
from pathlib import Path
from statistics import median

from cluster.faults import FAULTS
from cluster.ledger import Row, read
from one_machine import KINDS

_ROOT = Path(__file__).parents[2]
LEDGER = _ROOT / "docs" / "reliability.jsonl"
ONE_MACHINE_LEDGER = _ROOT / "docs" / "reliability-one-machine.jsonl"
PAGE = _ROOT / "docs" / "reliability.md"
_CLUSTER, _ONE_MACHINE = "table", "table of one machine"
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
_ON_ONE_MACHINE = {
    **{name: f"`kill -9` of {kind.description}" for name, kind in KINDS.items()},
    "clock-forward": "the clock is set forward by an hour",
    "clock-back": "the clock is set back by an hour",
    "memory": "one trial of four needs more memory than the kernel gives to `tangent up`, in every attempt",
}
_ONE_MACHINE_HEAD = ("fault", "times", "passed", "noticed", "resumed", "trials requeued", "retries charged")
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
    return _with_load(lines, rows)


def one_machine_table(rows: Sequence[Row]) -> str:
    """Return the table of the faults on one machine; all pairs of kills share a line."""
    groups = {
        description: [row for row in rows if row.fault == name]
        for name, description in _ON_ONE_MACHINE.items()
    }
    pairs = [row for row in rows if "+" in row.fault]
    groups[f"`kill -9` of two of these at once, {len({row.fault for row in pairs})} pairs"] = pairs
    lines = [_line(_ONE_MACHINE_HEAD), _line(["---"] * len(_ONE_MACHINE_HEAD))]
    lines += [
        _line([description, *_cells(mine)[: len(_ONE_MACHINE_HEAD) - 1]])
        for description, mine in groups.items()
        if mine
    ]
    return _with_load(lines, rows)


def _with_load(lines: Sequence[str], rows: Sequence[Row]) -> str:
    loads = [row.load for row in rows]
    load = f"{median(loads):g} / {max(loads):g}"
    about = f"One-minute load average of the machine when the faults were injected: {load}."
    return "\n".join([*lines, "", about])


def page_with(text: str, cluster: str, one_machine: str) -> str:
    """Return a page with its tables replaced."""
    return _replaced(_replaced(text, _CLUSTER, cluster), _ONE_MACHINE, one_machine)


def _replaced(text: str, name: str, written: str) -> str:
    begin, end = f"<!-- {name}: written by scripts/reliability-table -->", f"<!-- end of {name} -->"
    before, _, rest = text.partition(begin)
    _, _, after = rest.partition(end)
    return f"{before}{begin}\n\n{written}\n\n{end}{after}"


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
    tables = table(read(LEDGER)), one_machine_table(read(ONE_MACHINE_LEDGER))
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), *tables), encoding="utf-8")


if __name__ == "__main__":
    main()
