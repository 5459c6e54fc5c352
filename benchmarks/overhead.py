"""Seconds from a submission to its first measurement, and milliseconds that a pack costs beyond its training.

    .venv/bin/python benchmarks/overhead.py [--packs 60] [--repeats 3]

A dispatcher of its own, on SQLite in a temporary folder, waits until a run stands ready; then a study of trivial packs (one epoch of `antipode-2d`)
is submitted, `--repeats` times. The overhead is the time between the first start and the last end of a pack, less the seconds trained on each of
the cores, for each pack. Medians are printed.
"""

import argparse
import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from studies.spec import parse_spec
from studies.states import CLOSED_STUDY_STATES
from studies.store import Store

__all__ = ["main"]

_LOOK_EVERY_S = 0.01


def _measure(store: Store, packs: int) -> tuple[float, float, float]:
    """Return the seconds to the first measurement, the milliseconds a pack costs beyond training, and those it trains."""
    budget = {"trials_per_arm": packs, "epochs": 1}
    begun = time.monotonic()
    study_id = store.submit(parse_spec({"workload": "antipode-2d", "arms": ["adamp"], "budget": budget, "sampler": "random"})).id
    while store.study(study_id).progress.epochs_done == 0:
        time.sleep(_LOOK_EVERY_S)
    first_s = time.monotonic() - begun
    while store.study(study_id).state not in CLOSED_STUDY_STATES:
        time.sleep(0.1)
    trials = store.every_trial(study_id)
    # The first pack of each worker pays for its imports, which the first measurement has shown already.
    ends = sorted(trial.ended_at for trial in trials if trial.ended_at is not None)
    workers = {trial.worker for trial in trials}
    settled = len(workers)
    wall_s = (ends[-1] - ends[settled - 1]).total_seconds()
    counted = sorted((t for t in trials if t.ended_at is not None), key=lambda t: t.ended_at or t.created_at)[settled:]
    trained_s = sum(trial.cost_s for trial in counted)
    return first_s, 1000 * (wall_s - trained_s / len(workers)) / len(counted), 1000 * trained_s / len(counted)


def main() -> None:
    """Start a dispatcher, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--packs", type=int, default=60)
    parser.add_argument("--repeats", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tangent-overhead-") as home:
        store = Store.open(f"sqlite:///{home}/tangent.db")
        log = Path(home) / "dispatcher.log"
        environment = {**os.environ, "TANGENT_HOME": home, "TANGENT_PARENT_PID": str(os.getpid())}
        with log.open("wb") as said:
            dispatcher = subprocess.Popen([sys.executable, "-m", "workers"], env=environment, stdout=said, stderr=said)
        try:
            while not store.dispatchers() or "ready" not in log.read_text():
                if dispatcher.poll() is not None:
                    sys.exit(log.read_text())
                time.sleep(0.1)
            found = []
            for _ in range(given.repeats):
                # Long enough for the next run to get ready: a warm service.
                time.sleep(15)
                found.append(_measure(store, given.packs))
                print(f"first measurement {found[-1][0]:.2f} s, overhead {found[-1][1]:.1f} ms a pack, training {found[-1][2]:.1f} ms a pack")
        finally:
            dispatcher.send_signal(signal.SIGTERM)
            dispatcher.wait()
    first, overhead, training = (statistics.median(column) for column in zip(*found, strict=True))
    print(f"median: first measurement {first:.2f} s, overhead {overhead:.1f} ms a pack, training {training:.1f} ms a pack ({given.packs} packs)")


if __name__ == "__main__":
    main()
