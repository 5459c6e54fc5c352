"""The table of docs/reliability.md matches its rows."""

from pathlib import Path

from cluster.faults import FAULTS
from cluster.ledger import Row, append, read
from cluster.table import LEDGER, ONE_MACHINE_LEDGER, PAGE, one_machine_table, page_with, table

__all__: list[str] = []


def test_rows_are_read_as_they_were_written(tmp_path: Path) -> None:
    rows = [
        Row("run-killed", outcome="completed", noticed_s=0.25, requeued=2, retries=2),
        Row("stop", broken=["it took 11 s"]),
    ]
    append(tmp_path / "ledger", rows)
    assert read(tmp_path / "ledger") == rows


def test_a_line_shows_the_median_and_the_worst_of_all_repetitions() -> None:
    rows = [
        Row("run-killed", noticed_s=seconds, resumed_s=20.0, requeued=2, load=3.5)
        for seconds in (0.2, 0.3, 4.0)
    ]
    rows[0].broken.append("late")
    *_, line, empty, load = table(rows).splitlines()
    assert (empty, load) == (
        "",
        "One-minute load average of the machine when the faults were injected: 3.5 / 3.5.",
    )
    assert line == (
        f"| {FAULTS['run-killed'].description} | 3 | 2 | 0.3 / 4.0 s | 20 / 20 s | 2 "
        "/ 2 | 0 / 0 | 0 / 0 | 0 / 0 | – |"
    )


def test_pairs_of_kills_on_one_machine_share_a_line() -> None:
    rows = [Row("raylet", noticed_s=1.0), Row("raylet+run"), Row("raylet+run"), Row("gcs+run", noticed_s=2.0)]
    _, _, alone, pairs, *_ = one_machine_table(rows).splitlines()
    assert alone.startswith("| `kill -9` of the raylet | 1 | 1 | 1.0 / 1.0 s | – |")
    assert "2 pairs | 3 | 3 | 2.0 / 2.0 s |" in pairs


def test_the_page_is_up_to_date() -> None:
    page = PAGE.read_text(encoding="utf-8")
    tables = table(read(LEDGER)), one_machine_table(read(ONE_MACHINE_LEDGER))
    assert page == page_with(page, *tables), "run scripts/reliability-table"
