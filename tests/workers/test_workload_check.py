"""The check of a workload finds each common mistake, names its place, and finds none in a sound workload."""

import itertools
import json
import os
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset

from studies.catalog import WorkloadCard
from studies.training_settings import PrecisionName
from studies.trials import CheckResult
from workers.workload_check import check_workload
from workers.workload_check.__main__ import main
from workers.workloads import (
    AnyWorkload,
    Data,
    LoopWorkload,
    Split,
    SplitName,
    TensorWorkload,
    builtin_tensor_workloads,
)

__all__: list[str] = []

CPU = torch.device("cpu")
EXAMPLES = {"train": 64, "validation": 32, "test": 32}


class Sound(TensorWorkload):
    """Two clouds of points, and a network with batch normalisation."""

    card = WorkloadCard(
        name="clouds",
        title="Clouds",
        description="Two clouds of points.",
        source="made",
        metric="accuracy",
        unit="fraction",
        direction="maximize",
        target=0.9,
        epochs=2,
        batch_size=8,
        examples={"train": 64, "validation": 32, "test": 32},
        parameters=8 * 4 + 4 + 4 + 4 + 2 * 4 + 2,
        epoch_s=0.02,
    )

    def load_data(self, device: torch.device) -> Data:
        generator = torch.Generator().manual_seed(1)

        def split(examples: int) -> Split:
            targets = torch.arange(examples) % 2
            return Split(
                inputs=torch.randn(examples, 8, generator=generator) + targets[:, None], targets=targets
            )

        return Data(**{name: split(size) for name, size in EXAMPLES.items()}).to(device)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Linear(8, 4), nn.BatchNorm1d(4), nn.ReLU(), nn.Linear(4, 2))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).sum().float()


class MeanMetric(Sound):
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(1) == targets).float().mean()


class NanMetric(Sound):
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.sum() + targets.sum()) * float("nan")


class PercentMetric(Sound):
    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return 100 * super().metric_sum(outputs, targets)


class SummedLoss(Sound):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="sum")


class UnreducedLoss(Sound):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs, targets, reduction="none")


class DetachedLoss(Sound):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return functional.cross_entropy(outputs.detach(), targets)


class ShuffledData(Sound):
    def load_data(self, device: torch.device) -> Data:
        data = super().load_data(device)
        order = torch.randperm(len(data.train))
        train = Split(inputs=data.train.inputs[order], targets=data.train.targets[order])
        return Data(train=train, validation=data.validation, test=data.test)


class LeakedData(Sound):
    def load_data(self, device: torch.device) -> Data:
        data = super().load_data(device)
        return Data(train=data.train, validation=data.train.head(32), test=data.test)


class NanData(Sound):
    def load_data(self, device: torch.device) -> Data:
        data = super().load_data(device)
        data.validation.inputs[3, 2] = float("nan")
        return data


class MissingFile(Sound):
    def load_data(self, device: torch.device) -> Data:
        Path("/no/such/file.pt").read_bytes()
        return super().load_data(device)


class UnusedLayer(Sound):
    card = Sound.card.model_copy(update={"parameters": (Sound.card.parameters or 0) + 9})

    def build_model(self) -> nn.Module:
        class Model(nn.Module):
            def __init__(self, body: nn.Module) -> None:
                super().__init__()
                self.body, self.unused = body, nn.Linear(8, 1)

            def forward(self, inputs: Tensor) -> Tensor:
                return self.body(inputs)

        return Model(super().build_model())


class IgnoredOutputs(UnusedLayer):
    """A second head whose outputs are concatenated, and then left out: its gradient is zero, but exists."""

    def build_model(self) -> nn.Module:
        class Model(nn.Module):
            def __init__(self, body: nn.Module) -> None:
                super().__init__()
                self.body, self.unused = body, nn.Linear(8, 1)

            def forward(self, inputs: Tensor) -> Tensor:
                return torch.cat([self.body(inputs), self.unused(inputs)], dim=1)

        return Model(Sound.build_model(self))

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs[:, :2], targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().metric_sum(outputs[:, :2], targets)


class ZeroHead(Sound):
    """A head that starts at zero, behind which no gradient arrives in the first step."""

    def build_model(self) -> nn.Module:
        model = super().build_model()
        for weight in list(model.parameters())[-2:]:
            nn.init.zeros_(weight)
        return model


class LoopedClouds(LoopWorkload):
    """The same clouds with batches of its own; `shared` examples of the test split are validated on too."""

    card = Sound.card

    def __init__(self, shared: int) -> None:
        self._data, self._shared = Sound().load_data(CPU), shared

    def build_model(self) -> nn.Module:
        return Sound().build_model()

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        del epoch
        train = self._data.train
        for rows in torch.randperm(len(train)).split(batch_size):
            yield train.inputs[rows], train.targets[rows]

    def training_step(self, model: nn.Module, batch: tuple[Tensor, Tensor]) -> Tensor:
        return functional.cross_entropy(model(batch[0]), batch[1])

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> Mapping[str, float]:
        del device
        part = self._data.validation if split == "validation" else self._data.test
        inputs = torch.cat([self._data.validation.inputs[: self._shared], part.inputs[self._shared :]])
        return {"accuracy": (model(inputs).argmax(1) == part.targets).float().mean().item()}


class DrawnClouds(LoopedClouds):
    """The same clouds, evaluated in batches from a DataLoader; with `counts` by the examples in each."""

    def __init__(self, batch_size: int, *, counts: bool) -> None:
        super().__init__(shared=0)
        self._batch_size, self._counts = batch_size, counts

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> Mapping[str, float]:
        del device
        part = self._data.validation if split == "validation" else self._data.test
        found: list[tuple[float, int]] = []
        for [rows] in DataLoader(TensorDataset(torch.arange(len(part))), self._batch_size):
            outputs, targets = model(part.inputs[rows]), part.targets[rows]
            correct = (outputs.argmax(1) == targets).float().mean().item()
            found.append((correct, len(rows) if self._counts else 1))
        return {"accuracy": sum(value * n for value, n in found) / sum(n for _, n in found)}


class EndlessClouds(LoopedClouds):
    """The same clouds as a stream of no known length, and a log; one `is_kept` goes on in the next trial."""

    card = Sound.card.model_copy(update={"examples": {}})

    def __init__(self, *, is_kept: bool) -> None:
        super().__init__(shared=0)
        self._kept = itertools.count() if is_kept else None

    def evaluate(self, model: nn.Module, split: SplitName, *, device: torch.device) -> Mapping[str, float]:
        self.log(split=split)
        return super().evaluate(model, split, device=device)

    def train_batches(self, *, batch_size: int, epoch: int) -> Iterable[tuple[Tensor, Tensor]]:
        del epoch
        train = self._data.train
        for position in self._kept or itertools.count():
            rows = torch.arange(position * batch_size, (position + 1) * batch_size) % len(train)
            yield train.inputs[rows], train.targets[rows]


class OtherCard(Sound):
    card = Sound.card.model_copy(
        update={"parameters": 7, "examples": {"train": 60, "validation": 32, "test": 32}}
    )


class OwnRandomness(Sound):
    def build_model(self) -> nn.Module:
        model = super().build_model()
        with torch.no_grad():
            next(model.parameters())[0, 0] = int.from_bytes(os.urandom(2), "big") / 2**16
        return model


_calls = itertools.count()


class HiddenState(Sound):
    def build_model(self) -> nn.Module:
        class Model(nn.Module):
            def __init__(self, body: nn.Module) -> None:
                super().__init__()
                self.body, self.seen = body, 0

            def forward(self, inputs: Tensor) -> Tensor:
                self.seen += self.training
                return self.body(inputs) * (1 + 0.1 * self.seen)

        return Model(super().build_model())


class SharedState(Sound):
    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return super().loss(outputs, targets) * (1 + 1e-3 * next(_calls) * outputs.requires_grad)


BROKEN: dict[type[TensorWorkload], tuple[str, str]] = {
    MeanMetric: ("validation metric", "metric_sum"),
    NanMetric: ("validation metric", "metric_sum"),
    PercentMetric: ("validation metric", "metric_sum"),
    SummedLoss: ("validation loss", "loss"),
    DetachedLoss: ("loss", "loss"),
    ShuffledData: ("same data twice", "load_data"),
    NanData: ("finite data", "load_data"),
    UnusedLayer: ("gradients", "build_model"),
    OwnRandomness: ("same model twice", "build_model"),
    HiddenState: ("resuming", "build_model"),
}


def _errors(workload: TensorWorkload) -> list[CheckResult]:
    return [finding for finding in check_workload(workload, device=CPU) if finding.status == "error"]


def test_a_sound_workload_has_no_errors_and_no_warnings() -> None:
    results = list(check_workload(Sound(), device=CPU))
    assert [
        (f.check, f.sentence)
        for f in results
        if f.status in {"warning", "error"} and f.check != "card: epoch_s"
    ] == []
    by_check = {finding.check: finding for finding in results}
    assert by_check["stacking"].status == by_check["resuming"].status == "ok"
    # Only the layer before batch normalisation is scale-invariant.
    assert by_check["scale invariance"].sentence == "scale-invariant weight tensors: 1 of 2 (0.weight)"


@pytest.mark.parametrize("broken", BROKEN)
def test_a_mistake_is_found_in_the_function_that_makes_it(broken: type[TensorWorkload]) -> None:
    check, function = BROKEN[broken]
    error = _errors(broken())[0]
    assert error.check == check
    line = getattr(broken, function).__code__.co_firstlineno
    assert error.where == f"{__file__}:{line}"


@pytest.mark.parametrize(("broken", "function"), [(MissingFile, "load_data"), (UnreducedLoss, "loss")])
def test_an_error_of_the_workload_names_its_function_and_line(
    broken: type[TensorWorkload], function: str
) -> None:
    (error,) = _errors(broken())
    assert function in error.sentence
    assert Path(__file__).name in f"{error.sentence} {error.where}"


def test_state_shared_by_trials_is_found() -> None:
    assert "same training twice" in {error.check for error in _errors(SharedState())}


def test_a_card_that_differs_from_the_data_is_found_and_training_is_still_checked() -> None:
    results = {finding.check: finding for finding in check_workload(OtherCard(), device=CPU)}
    assert results["card: examples"].status == results["card: parameters"].status == "warning"
    assert results["resuming"].status == "ok"


def test_a_split_of_which_half_is_trained_on_is_an_error() -> None:
    results = [f for f in check_workload(LeakedData(), device=CPU) if f.check == "separate splits"]
    assert [(f.status, "32 different inputs" in f.sentence) for f in results] == [("error", True)]


def test_a_weight_whose_gradient_is_zero_in_every_step_is_a_warning() -> None:
    def gradients(workload: TensorWorkload) -> CheckResult:
        return next(f for f in check_workload(workload, device=CPU) if f.check == "gradients")

    found = gradients(IgnoredOutputs())
    assert (found.status, "unused.weight and unused.bias" in found.sentence) == ("warning", True)
    assert gradients(ZeroHead()).status == "ok"


@pytest.mark.parametrize("is_kept", [False, True])
def test_a_stream_without_an_end_is_trained_in_intervals(is_kept: bool) -> None:
    results = list(check_workload(EndlessClouds(is_kept=is_kept), device=CPU))
    errors = [result.check for result in results if result.status == "error"]
    assert errors == (["same training twice"] if is_kept else [])
    assert is_kept or {"resuming", "speed"} <= {result.check for result in results}
    assert not [result for result in results if "for an epoch" in result.sentence]


@pytest.mark.parametrize(("shared", "status"), [(0, "ok"), (3, "warning")])
def test_examples_that_two_evaluations_give_the_model_are_a_warning(shared: int, status: str) -> None:
    results = [f for f in check_workload(LoopedClouds(shared), device=CPU) if f.check == "separate splits"]
    assert [result.status for result in results] == [status]


@pytest.mark.parametrize(
    ("batch_size", "counts", "is_wrong"), [(20, False, True), (20, True, False), (16, False, False)]
)
def test_a_mean_over_batches_of_different_sizes_is_found(
    batch_size: int, *, counts: bool, is_wrong: bool
) -> None:
    results = list(check_workload(DrawnClouds(batch_size, counts=counts), device=CPU))
    warned = [result for result in results if "batches of other sizes" in result.sentence]
    assert [result.check for result in warned] == (["validation metric", "test metric"] if is_wrong else [])
    assert all("weight each by its number of examples" in result.sentence for result in warned)


class Halved(LoopedClouds):
    """It fails in bf16, and has an argument for label smoothing that it does not use."""

    def training_step(
        self, model: nn.Module, batch: tuple[Tensor, Tensor], *, label_smoothing: float = 0.0
    ) -> Tensor:
        del label_smoothing
        outputs = model(batch[0])
        outputs.detach().numpy()
        return functional.cross_entropy(outputs, batch[1])


def test_the_settings_of_a_study_are_tried() -> None:
    def found(workload: AnyWorkload, *precisions: PrecisionName) -> list[str]:
        results = check_workload(workload, device=CPU, precisions=precisions, smooths_labels=True)
        return [f"{each.check}: {each.status}" for each in results if each.check in checks]

    checks = ("precision bf16", "precision fp16", "label smoothing")
    assert found(Halved(0), "fp16") == ["precision fp16: ok", "label smoothing: error"]
    assert found(Halved(0), "bf16") == ["precision bf16: error"]
    sound = builtin_tensor_workloads()["digits-mlp"]
    assert found(sound, "bf16", "fp16") == [f"{check}: ok" for check in checks]


@pytest.mark.parametrize(
    "name",
    [
        "digits-mlp",
        "rosenbrock-3d",
        "mnist5k-resnet",
        *(
            pytest.param(name, marks=pytest.mark.slow)
            for name in ("mnist5k-mobilenet", "digits-centernet", "digits-ssd")
        ),
    ],
)
def test_our_own_workloads_have_no_errors(name: str) -> None:
    assert _errors(builtin_tensor_workloads()[name]) == []


def _run(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "check", *arguments]
    here = {"PYTHONPATH": str(Path(__file__).parent)}
    return subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, **here})


def test_the_command_prints_results_and_fails_on_an_error() -> None:
    done = _run("test_workload_check:SummedLoss", "--json")
    assert done.returncode == 1, done.stderr
    shown: dict[str, Any] = json.loads(done.stdout)
    assert shown["workload"] == "clouds"
    assert "validation loss" in {f["check"] for f in shown["results"] if f["status"] == "error"}


@pytest.mark.parametrize("target", ["no-such-workload", "no_such_package:X", "test_workload_check:CPU"])
def test_the_command_refuses_what_is_not_a_workload(target: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([target]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("error: ")
    assert printed.err.count("\n") == 1


@pytest.mark.parametrize(
    ("module", "code", "line"),
    [("own_broken", "import no_such_dependency\n", 1), ("own_exits", "print(1)\nraise SystemExit(0)\n", 2)],
)
def test_a_module_that_cannot_be_imported_is_named_with_the_line(
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    module: str,
    code: str,
    line: int,
) -> None:
    (tmp_path / f"{module}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    assert main([f"{module}:X"]) == 2
    printed = capsys.readouterr()
    assert f"repair {tmp_path / module}.py, line {line}" in printed.err
    assert printed.out == "", "results only"


def test_the_command_ends_quietly_when_the_reader_of_its_results_has_ended() -> None:
    command = [sys.executable, "-m", "service", "check", "rosenbrock-3d"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
