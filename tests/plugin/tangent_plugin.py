"""A plugin package that adds faulty workloads by entry point: slow, broken, deadly, hanging and greedy ones.

Tests put this folder on the path of a dispatcher or a Ray node; the `.dist-info` folder next to this file is
what `pip install` would create. A workload whose name ends in `-high-lr` misbehaves only if a prediction
exceeds 1000, as in the second step at an lr of 1e6, so that only one trial of a study misbehaves.
"""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, TensorDataset

from studies.catalog import Bounds, Hyperparameter, MetricCard, WorkloadCard
from studies.space import Choices
from workers.script.trial import Trial
from workers.workloads import (
    CommandWorkload,
    Data,
    LoopWorkload,
    MetricValue,
    ScriptWorkload,
    Split,
    SplitName,
    TensorWorkload,
)

__all__ = ["WORKLOADS"]


class _Line(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.fit = nn.Linear(2, 1)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.fit(inputs)[:, 0]


class _Plane(TensorWorkload):
    """Fits a plane to 64 points; subclasses add a fault."""

    def __init__(self, name: str, *, epochs: int = 4) -> None:
        self.card = WorkloadCard(
            name=name,
            title=f"A plane, {name}",
            description="A linear model on 64 points of a plane.",
            source="made up",
            metric="squared error",
            unit="none",
            direction="minimize",
            target=0.1,
            epochs=epochs,
            batch_size=16,
            examples={"train": 64, "validation": 16, "test": 16},
            parameters=3,
            epoch_s=0.01,
        )

    def load_data(self, device: torch.device) -> Data:
        def split(n: int, seed: int) -> Split:
            points = torch.randn(n, 2, generator=torch.Generator().manual_seed(seed))
            return Split(inputs=points, targets=points @ torch.tensor([1.0, -2.0]) + 0.5).to(device)

        return Data(train=split(64, 1), validation=split(16, 2), test=split(16, 3))

    def build_model(self) -> nn.Module:
        return _Line()

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        self.misbehave(outputs.detach())
        return (outputs - targets).square().mean()

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().sum()

    def misbehave(self, outputs: Tensor) -> None:
        """Do nothing; subclasses override this."""


class _Adjustable(_Plane):
    """Has a factor for its initial weights, and a parameter group for the bias."""

    def __init__(self, name: str) -> None:
        super().__init__(name)
        scale = Hyperparameter(
            name="scale",
            description="Factor of the initial weights.",
            unit="none",
            default=1.0,
            search=Choices(choices=(0.5, 1.0, 2.0)),
            source="made up",
            bounds=Bounds(low=0, low_open=True),
        )
        self.card = self.card.model_copy(update={"hyperparameters": (scale,), "groups": ("bias",)})

    def build_model(self) -> nn.Module:
        model = _Line()
        with torch.no_grad():
            model.fit.weight.mul_(self.config["scale"])
        return model

    def parameter_groups(self, model: nn.Module) -> Mapping[str, Iterable[nn.Parameter]]:
        return {"bias": [model.get_parameter("fit.bias")]}


class _Looped(LoopWorkload):
    """Fits the same plane to batches of a DataLoader."""

    card = _Plane("looped-plane").card

    def build_model(self) -> nn.Module:
        return _Line()

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        del epoch
        train = _Plane("plane").load_data(torch.device("cpu")).train
        return DataLoader(TensorDataset(train.inputs, train.targets), batch_size=batch_size, shuffle=True)

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        inputs, targets = batch
        return (model(inputs) - targets).square().mean()

    def evaluate(
        self, model: nn.Module, split: SplitName, *, device: torch.device
    ) -> Mapping[str, MetricValue]:
        data = getattr(_Plane("plane").load_data(device), split)
        return {"squared error": (model(data.inputs) - data.targets).square().mean()}


class _Streamed(_Looped):
    """Fits the same plane to points of a stream without an end."""

    card = _Plane("streamed-plane").card

    def steps_per_epoch(self, batch_size: int) -> int | None:
        del batch_size
        return None

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[Any]:
        del epoch
        while True:
            points = torch.randn(batch_size, 2)
            yield points, points @ torch.tensor([1.0, -2.0]) + 0.5


class _TwoMetrics(_Looped):
    """Measures the mean absolute error and the share of near predictions beside the squared error."""

    card = _Looped.card.model_copy(
        update={
            "name": "two-metrics",
            "title": "A plane with more metrics",
            "metrics": (
                MetricCard(name="absolute error", unit="none", direction="minimize"),
                MetricCard(name="near", unit="fraction", direction="maximize", target=0.9),
            ),
        }
    )

    def evaluate(
        self, model: nn.Module, split: SplitName, *, device: torch.device
    ) -> Mapping[str, MetricValue]:
        data = getattr(_Plane("plane").load_data(device), split)
        distance = (model(data.inputs) - data.targets).abs()
        return {
            "squared error": distance.square().mean(),
            "absolute error": _Mean(distance),
            "near": float((distance < 0.5).float().mean()),
        }


class _Mean:
    """A metric with the protocol of torchmetrics."""

    def __init__(self, values: Tensor) -> None:
        self._values = values

    def compute(self) -> Tensor:
        """Return the mean of the values."""
        return self._values.mean()


class _SlowlyLooped(_Looped):
    """Starts a daemon in each of its processes."""

    card = _Plane("slow-looped-plane", epochs=30).card
    _has_started = False

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        if not self._has_started:
            self._has_started = True
            subprocess.Popen([sys.executable, "-c", _DAEMON, f"started-by-{os.getpid()}"])
        time.sleep(0.05)
        return super().training_step(model, batch)


class _BrokenLoop(_Looped):
    """Raises an error in the second process of its trial."""

    card = _Plane("broken-loop").card

    def training_step(self, model: nn.Module, batch: Any) -> Tensor:
        if self.rank == 1:
            raise RuntimeError("the fourth layer has no weights")
        return super().training_step(model, batch)


class _Slow(_Plane):
    def misbehave(self, outputs: Tensor) -> None:
        del outputs
        time.sleep(0.05)


class _Broken(_Plane):
    def misbehave(self, outputs: Tensor) -> None:
        del outputs
        raise RuntimeError("the third layer has no weights")


class _Bad(_Plane):
    """Has a fault that no trial survives: in the first step, or only if the learning rate is far too high."""

    def __init__(self, name: str, fault: Callable[[], None]) -> None:
        super().__init__(name)
        self._fault = fault

    def misbehave(self, outputs: Tensor) -> None:
        if not self.card.name.endswith("-high-lr") or bool((outputs.abs() > 1000).any()):
            self._fault()


class _Printing(_Slow):
    """Prints a line in each step, and half a gigabyte in all."""

    def misbehave(self, outputs: Tensor) -> None:
        super().misbehave(outputs)
        sys.stdout.write("a step\n")
        sys.stdout.flush()
        for _ in range(4):
            os.write(1, b"x" * 2**20)


class _WithProcesses(_Slow):
    """Starts other processes in its first step, and leaves them running."""

    def __init__(self, name: str, *command: str) -> None:
        super().__init__(name, epochs=10)
        self._command = command
        self._has_started = False

    def misbehave(self, outputs: Tensor) -> None:
        super().misbehave(outputs)
        if not self._has_started:
            self._has_started = True
            # Tests find the processes by this argument.
            subprocess.Popen([sys.executable, *self._command, f"started-by-{os.getpid()}"])


class _HangingInData(_Plane):
    def load_data(self, device: torch.device) -> Data:
        _hang()
        return super().load_data(device)


# Leaves its parent's session, forks twice and ignores SIGTERM, as daemons do.
_DAEMON = """
import os, signal, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        time.sleep(300)
"""


class _WithoutFile(_Plane):
    def load_data(self, device: torch.device) -> Data:
        Path("/nonexistent/points.csv").read_text(encoding="utf-8")
        return super().load_data(device)


class _WrongCard(_Plane):
    """Has fewer training examples than on its card, and a test split that holds all of them."""

    def load_data(self, device: torch.device) -> Data:
        data = super().load_data(device)
        return Data(train=data.train.head(48), validation=data.validation, test=data.train.head(16))


class _OnWrongDevice(_Plane):
    def load_data(self, device: torch.device) -> Data:
        return super().load_data(torch.device("meta") if device.type == "cpu" else torch.device("cpu"))


class _MixedDevices(_Plane):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        weights = torch.ones(len(targets), device="meta")
        return ((outputs - targets).square() * weights).mean()


class _VectorLoss(_Plane):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square()


class _ConstantLoss(_Plane):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets).detach()


class _NumberMetric(_Plane):
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return cast("Tensor", float((outputs - targets).square().sum()))


class _MeanMetric(_Plane):
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs - targets).square().mean()


class _FileInLoss(_Plane):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        Path("/nonexistent/weights.csv").read_text(encoding="utf-8")
        return super().loss(outputs, targets)


class _NanData(_Plane):
    def load_data(self, device: torch.device) -> Data:
        data = super().load_data(device)
        data.train.targets.fill_(float("nan"))
        return data


class _NanMetric(_Plane):
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().metric_sum(outputs, targets) * float("nan")


class _DeepError(_Plane):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return _descend(8, outputs, targets)


class _OwnLoop(ScriptWorkload):
    """Fits the plane in a loop of its own, and notes each epoch that it trains."""

    card = _Plane("own-loop", epochs=9).card

    def run(self, trial: Trial) -> None:
        model = _Line()
        optimizer = trial.optimizer(model)
        parts = {"model": model, "optimizer": optimizer}
        trial.restore(parts)
        data = _Plane("own-loop").load_data(trial.device)
        for epoch in trial.epochs():
            with (Path(os.environ["TANGENT_DATA"]) / "own-loop-epochs").open("a") as file:
                file.write(f"{trial.id} {epoch}\n")
            loss = (model(data.train.inputs) - data.train.targets).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(0.25)
            errors = [
                (model(split.inputs) - split.targets).square().mean()
                for split in (data.validation, data.test)
            ]
            trial.log(epoch=epoch)
            trial.report(validation=errors[0], test=errors[1], train_loss=loss)
            trial.save(parts)


class _SlowSteps(ScriptWorkload):
    """Takes a step every quarter of a second, of which an epoch has 400."""

    card = _Plane("slow-steps", epochs=1).card

    def run(self, trial: Trial) -> None:
        for _ in trial.steps(steps_per_epoch=400):
            time.sleep(0.25)
            if trial.is_due:
                trial.report(validation=0.5, test=0.5)


class _SharedLoop(ScriptWorkload):
    """Fits the plane in processes that average their gradients, of which each starts a daemon."""

    card = _Plane("shared-loop", epochs=30).card

    def run(self, trial: Trial) -> None:
        subprocess.Popen([sys.executable, "-c", _DAEMON, f"started-by-{os.getpid()}"])
        model = _Line()
        optimizer = trial.optimizer(model)
        parts = {"model": model, "optimizer": optimizer}
        trial.restore(parts)
        network = DistributedDataParallel(model) if trial.distributed else model
        data = _Plane("shared-loop").load_data(trial.device)
        own = slice(trial.rank, None, trial.world_size)
        for _ in trial.epochs():
            (network(data.train.inputs[own]) - data.train.targets[own]).square().mean().backward()
            optimizer.step()
            optimizer.zero_grad()
            time.sleep(0.2)
            if trial.is_main:
                found = [
                    (model(split.inputs) - split.targets).detach().square().mean()
                    for split in (data.validation, data.test)
                ]
                trial.report(validation=found[0], test=found[1])
            trial.save(parts)


_PROGRAM = CommandWorkload(
    _Plane("program", epochs=9).card,
    ["{python}", str(Path(__file__).with_name("program.py")), "--lr={lr}"],
)

_SGD_ONLY = CommandWorkload(
    _Plane("sgd-only", epochs=2).card,
    [
        *(
            "{python}",
            "-c",
            "import sys; print('values 0.5 0.5\\n' * (2 if 'sgd' in sys.argv else sys.exit(3)))",
        ),
        "{optimizer}",
    ],
    pattern=r"values (?P<validation>\S+) (?P<test>\S+)",
)


def _descend(levels: int, outputs: Tensor, targets: Tensor) -> Tensor:
    if levels == 0:
        raise KeyError("weights")
    return _descend(levels - 1, outputs, targets)


def _die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _print_and_die() -> None:
    os.write(2, b"a last word\n")
    _die()


def _die_once() -> None:
    deaths = Path(os.environ.get("TANGENT_DATA", tempfile.gettempdir())) / "deaths"
    if not deaths.exists():
        deaths.touch()
        _die()


def _hang() -> None:
    while True:
        time.sleep(60)


def _hang_with_the_interpreter() -> None:
    # This loop runs in C and holds the interpreter lock, so no other Python thread can run.
    sum(range(10**13))


def _take_all_memory() -> None:
    """Allocate and touch memory until a limit ends this process.

    Without a limit it raises at 4 GiB, so that the machine survives.
    """
    taken = []
    for _ in range(64):
        taken.append(torch.ones(2**24))
        time.sleep(0.02)
    raise MemoryError("the trial was allowed to take 4 GiB")


def _ask_for_too_much() -> None:
    torch.empty(2**50)


WORKLOADS = [
    _Plane("plane"),
    _Looped(),
    _Streamed(),
    _Adjustable("adjustable"),
    _TwoMetrics(),
    _SlowlyLooped(),
    _BrokenLoop(),
    _OwnLoop(),
    _SharedLoop(),
    _SlowSteps(),
    _PROGRAM,
    _SGD_ONLY,
    _Slow("slow-plane", epochs=10),
    _Broken("broken"),
    _WithProcesses("daemon", "-c", _DAEMON),
    _WithProcesses(
        "torchrun",
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node=2",
        str(Path(__file__).with_name("rank.py")),
    ),
    _WithoutFile("without-file"),
    _WrongCard("wrong-card"),
    _OnWrongDevice("on-wrong-device"),
    _MixedDevices("mixed-devices"),
    _VectorLoss("vector-loss"),
    _ConstantLoss("constant-loss"),
    _NumberMetric("number-metric"),
    _MeanMetric("mean-metric"),
    _FileInLoss("file-in-loss"),
    _NanData("nan-data"),
    _NanMetric("nan-metric"),
    _DeepError("deep-error"),
    _Printing("printing"),
    _Bad("deadly", _die),
    _Bad("deadly-with-output", _print_and_die),
    _Bad("deadly-once", _die_once),
    _Bad("deadly-high-lr", _die),
    _Bad("hanging", _hang),
    _Bad("hanging-hard", _hang_with_the_interpreter),
    _Bad("hanging-high-lr", _hang),
    _HangingInData("hanging-in-data"),
    _Bad("greedy", _take_all_memory),
    _Bad("greedy-high-lr", _take_all_memory),
    _Bad("greedy-at-once", _ask_for_too_much),
]
