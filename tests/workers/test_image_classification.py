"""Image classifiers: their sizes, CutMix, stochastic depth, and training on copies of CIFAR."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.seeding import seeded
from workers.workload_check import check_workload
from workers.workloads import LoopWorkload, builtin_workloads, configured, own_generator
from workers.workloads.image_models import (
    CutMix,
    StochasticDepth,
    cifar_resnet18,
    mixed_cross_entropy,
    with_stochastic_depth,
)

__all__: list[str] = []

CPU = torch.device("cpu")
WORKLOADS = builtin_workloads()
FILES = {
    "cifar10-resnet18": (
        "cifar-10-batches-bin",
        {**{f"data_batch_{n}.bin": 2 for n in range(1, 6)}, "test_batch.bin": 2},
        (1, 10),
    ),
    "cifar100-resnet18": ("cifar-100-binary", {"train.bin": 10, "test.bin": 2}, (2, 100)),
}
"""By workload: the folder, the images in each of its files, and the bytes and number of labels."""


def count(model: nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


class Means(nn.Module):
    """Logits that are the mean of each image, twice."""

    def forward(self, images: Tensor) -> Tensor:
        return images.mean(dim=(1, 2, 3))[:, None].expand(-1, 2)


def test_the_resnet_has_the_usual_number_of_parameters() -> None:
    assert (count(cifar_resnet18(10)), count(cifar_resnet18(100))) == (11_173_962, 11_220_132)


@pytest.mark.parametrize("name", ["mnist5k-resnet", "mnist5k-mobilenet"])
@pytest.mark.parametrize(
    "options", [{}, {"cutmix": 1.0}, {"stochastic_depth": 0.5}, {"cutmix": 1.0, "stochastic_depth": 0.5}]
)
def test_every_option_has_finite_outputs_and_gradients(name: str, options: dict[str, Any]) -> None:
    workload: Any = configured(
        WORKLOADS[name], {f"workload.{option}": value for option, value in options.items()}
    )
    with seeded(0, device=CPU):
        model = workload.build_model()
        loss = workload.loss(model(torch.randn(8, 1, 28, 28)), torch.arange(8))
    loss.backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert model.eval()(torch.randn(3, 1, 28, 28)).shape == (3, 10)


def test_weight_norm_replaces_batch_norm() -> None:
    workload: Any = configured(WORKLOADS["mnist5k-resnet"], {"workload.weight_norm": True})
    model = workload.build_model()
    assert not any(isinstance(module, nn.BatchNorm2d) for module in model.modules())
    assert sum("original1" in name for name, _ in model.named_parameters()) == 9


def test_cutmix_weighs_both_labels_by_the_area_that_is_left() -> None:
    images = torch.arange(4.0)[:, None, None, None].expand(4, 3, 16, 16)
    model = CutMix(Means(), 1.0)
    with seeded(3, device=CPU):
        outputs = model(images)
    left = outputs[0, 2]
    assert 0 < left < 1
    neighbours = images.roll(1, 0)[:, 0, 0, 0]
    torch.testing.assert_close(outputs[:, 0], left * torch.arange(4.0) + (1 - left) * neighbours)
    assert torch.equal(model.eval()(images), Means()(images))
    with seeded(3, device=CPU):
        never = CutMix(Means(), 0.0)(images)
    assert torch.equal(never[:, :2], Means()(images))
    assert torch.equal(never[:, 2], torch.ones(4))


def test_the_loss_of_mixed_images_is_the_mean_over_both_labels() -> None:
    logits, targets, left = torch.randn(6, 3), torch.tensor([0, 1, 2, 0, 1, 2]), 0.7
    outputs = torch.cat([logits, torch.full((6, 1), left)], dim=1)
    one, other = (
        functional.cross_entropy(logits, labels, label_smoothing=0.1) for labels in (targets, targets.roll(1))
    )
    mixed = mixed_cross_entropy(outputs, targets, classes=3, label_smoothing=0.1)
    torch.testing.assert_close(mixed, left * one + (1 - left) * other)
    plain = mixed_cross_entropy(logits, targets, classes=3)
    torch.testing.assert_close(plain, functional.cross_entropy(logits, targets))


def test_stochastic_depth_leaves_out_branches_of_whole_examples_and_keeps_their_mean() -> None:
    depth = StochasticDepth(0.25)
    with seeded(0, device=CPU):
        outputs = depth(torch.ones(4000, 2, 1, 1))
    assert torch.equal(outputs[:, 0], outputs[:, 1])
    assert outputs.unique().tolist() == pytest.approx([0, 4 / 3])
    assert outputs.mean().item() == pytest.approx(1, abs=0.03)
    assert torch.equal(depth.eval()(torch.ones(4, 2)), torch.ones(4, 2))
    rates = [
        module.rate
        for module in with_stochastic_depth(cifar_resnet18(10), 0.8).modules()
        if isinstance(module, StochasticDepth)
    ]
    assert rates == pytest.approx([0.1 * n for n in range(1, 9)])


@pytest.fixture
def copies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Copies of both CIFARs with twelve random images, in the layout in which they are published."""
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    numbers = np.random.default_rng(0)
    for folder, files, (labels, classes) in FILES.values():
        (tmp_path / folder).mkdir()
        for name, images in files.items():
            pixels = numbers.integers(256, size=(images, 3072))
            classes_of = numbers.integers(classes, size=(images, labels))
            np.hstack([classes_of, pixels]).astype(np.uint8).tofile(tmp_path / folder / name)
    return tmp_path


@pytest.mark.parametrize("name", FILES)
def test_a_resnet_trains_on_a_copy_of_cifar(name: str, copies: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    workload: Any = WORKLOADS[name]
    assert isinstance(workload, LoopWorkload)
    assert workload.missing() is None
    assert count(workload.build_model()) == workload.card.parameters
    # The check trains a few dozen steps, and a narrow network is as good for it.
    monkeypatch.setattr("workers.workloads.image_classification.cifar_resnet18", _narrow)
    found = {result.status for result in check_workload(workload, device=CPU, batch_size=3)}
    assert "error" not in found
    (copies / FILES[name][0] / "test.bin").unlink(missing_ok=True)
    (copies / FILES[name][0] / "test_batch.bin").unlink(missing_ok=True)
    missing = workload.missing()
    assert missing is not None
    assert "test" in missing


def _narrow(classes: int) -> nn.Module:
    return nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=4, bias=False),
        nn.BatchNorm2d(4),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(4, classes),
    )


@pytest.mark.parametrize("name", ["cifar10-resnet18", "cifar10-adversarial"])
@pytest.mark.usefixtures("copies")
def test_crops_do_not_depend_on_what_is_drawn_between_two_batches(name: str) -> None:
    workload: Any = WORKLOADS[name]

    def batches(drawn: int) -> list[Tensor]:
        found: list[Tensor] = []
        with seeded(0, device=CPU):
            for images, targets in workload.train_batches(batch_size=3, epoch=1):
                torch.rand(drawn)
                found += [images, targets]
        return found

    assert all(map(torch.equal, batches(0), batches(5)))


def test_each_process_of_a_trial_has_draws_of_its_own() -> None:
    draws: list[float] = []
    for rank in (0, 1, 0):
        with seeded(0, device=CPU):
            draws.append(float(torch.rand((), generator=own_generator(rank=rank, world_size=2))))
    assert draws[0] == draws[2] != draws[1]


def test_the_labels_of_cifar_100_are_its_fine_classes(copies: Path) -> None:
    from workers.workloads.cifar10 import read_cifar100

    written = np.fromfile(copies / "cifar-100-binary" / "train.bin", dtype=np.uint8).reshape(10, -1)
    data = read_cifar100()
    assert torch.cat([data.train.targets, data.validation.targets]).tolist() == written[:, 1].tolist()
    assert data.train.inputs[0].flatten().tolist() == written[0, 2:].tolist()
