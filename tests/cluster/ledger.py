"""The result of each repetition of a fault, one JSON object per line."""

__all__ = ["Row", "append", "read"]

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path


@dataclass
class Row:
    """One repetition of one fault.

    Attributes:
        fault: its name.
        outcome: how the study ended, with the reason if it has one.
        noticed_s: seconds until a trial was requeued, or until the service answered 503.
        resumed_s: seconds until a requeued trial had trained an epoch, or the service answered as before.
        requeued: the number of requeued trials.
        retries: how many of these requeues were charged.
        lost_epochs: epochs that were trained twice.
        kept_epochs: epochs of requeued trials that were not trained again, thanks to checkpoints.
        slowest_s: seconds of the slowest response to a client meanwhile.
        load: one-minute load average when the fault was injected.
        broken: violated guarantees, one sentence each.
    """

    fault: str
    outcome: str = "open"
    noticed_s: float | None = None
    resumed_s: float | None = None
    requeued: int = 0
    retries: int = 0
    lost_epochs: int = 0
    kept_epochs: int = 0
    slowest_s: float | None = None
    load: float = field(default_factory=lambda: round(os.getloadavg()[0], 1))
    broken: list[str] = field(default_factory=list[str])


def append(file: Path, rows: Iterable[Row]) -> None:
    """Add rows to a file."""
    with file.open("a", encoding="utf-8") as out:
        out.writelines(f"{json.dumps(asdict(row))}\n" for row in rows)


def read(file: Path) -> list[Row]:
    """Return the rows of a file."""
    return [Row(**json.loads(line)) for line in file.read_text(encoding="utf-8").splitlines()]
