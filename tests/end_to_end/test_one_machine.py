"""Kills of each kind of process below `tangent up`, alone and in pairs: every guarantee holds each time.

With `TANGENT_REPETITIONS=20 TANGENT_LEDGER=rows.jsonl` each kill is repeated and its results are stored;
`-k "not +"` selects the processes that are killed alone.
"""

import itertools
import os
from pathlib import Path

import pytest
from cluster.ledger import append
from one_machine import KINDS, machine, repeat

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
