"""Kills of each kind of process below `tangent up`, alone and in pairs: every guarantee holds each time.

With `TANGENT_REPETITIONS=20 TANGENT_LEDGER=rows.jsonl` each kill is repeated and its results are stored;
`-k "not +"` selects the processes that are killed alone.
"""

import itertools
import os
from pathlib import Path

import pytest
from cluster.ledger import append
from one_machine import KINDS, machine, repeat, run_study

__all__: list[str] = []

_REPETITIONS = int(os.environ.get("TANGENT_REPETITIONS", "1"))
_LEDGER = os.environ.get("TANGENT_LEDGER")
_ALONE = [(kind,) for kind in KINDS]
_PAIRS = list(itertools.combinations(KINDS, 2))


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(0)
@pytest.mark.parametrize("kinds", [*_ALONE, *_PAIRS], ids="+".join)
def test_a_study_survives_the_kill_of_any_processes(tmp_path: Path, kinds: tuple[str, ...]) -> None:
    with machine(tmp_path) as running:
        for _ in range(_REPETITIONS):
            row = repeat(running, kinds)
            if _LEDGER:
                append(Path(_LEDGER), [row])
            assert row.broken == [], (tmp_path / "logs" / "dispatcher.log").read_text()[-4000:]
            assert not any(KINDS[kind].trains for kind in kinds) or row.requeued


@pytest.mark.ray
@pytest.mark.clock
@pytest.mark.slow
@pytest.mark.timeout(0)
def test_a_study_survives_a_clock_that_is_set_forward_and_back(tmp_path: Path) -> None:
    offset = tmp_path / "offset"
    offset.write_text("+0")
    (library,) = Path("/usr/lib").glob("*/faketime/libfaketimeMT.so.1")
    fake = {
        "LD_PRELOAD": str(library),
        "FAKETIME_TIMESTAMP_FILE": str(offset),
        "FAKETIME_NO_CACHE": "1",
        "TANGENT_TRIAL_ENVIRONMENT": "FAKETIME_*",
        # Setting a machine's clock leaves this one alone.
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
    }
    with machine(tmp_path, **fake) as running:
        for name, hours in (("clock-forward", "+1h"), ("clock-back", "-1h")):
            for _ in range(_REPETITIONS):
                offset.write_text("+0")
                row = run_study(running, name, lambda hours=hours: set_clock(offset, hours))
                if _LEDGER:
                    append(Path(_LEDGER), [row])
                assert (row.broken, row.requeued) == ([], 0)


def set_clock(file: Path, offset: str) -> None:
    """Set the clock of all processes that read their offset from a file."""
    new = file.with_suffix(".new")
    new.write_text(offset)
    new.replace(file)
