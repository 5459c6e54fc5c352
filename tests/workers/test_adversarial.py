"""Adversarial training: the attack finds the worst image within its radius; CIFAR-10 in its real layout."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.workload_check import check_workload
from workers.workloads import LoopWorkload, builtin_workloads
from workers.workloads.adversarial import Cifar10Adversarial, attacked, wide_resnet
from workers.workloads.cifar10 import cropped_and_flipped, missing_cifar10, read_cifar10

__all__: list[str] = []

CPU = torch.device("cpu")
FILES = (*(f"data_batch_{number}.bin" for number in range(1, 6)), "test_batch.bin")


@pytest.fixture
def cifar10(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> np.ndarray:
    """Ten images in each file of CIFAR-10's binary version; returns the records, [60, 3073]."""
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    assert "data_batch_1.bin" in (missing_cifar10() or "")
    records = np.random.default_rng(0).integers(0, 256, (60, 3073)).astype(np.uint8)
    records[:, 0] %= 10
    folder = tmp_path / "cifar-10-batches-bin"
    folder.mkdir()
    for number, name in enumerate(FILES):
        records[10 * number : 10 * number + 10].tofile(folder / name)
    return records


def errors(workload: LoopWorkload, batch_size: int | None = None) -> list[str]:
    found = check_workload(workload, device=CPU, batch_size=batch_size)
    # How long an epoch takes depends on what else the machine does.
    return [
        f"{each.check}: {each.sentence}"
        for each in found
        if each.status in ("error", "warning") and each.check != "card: epoch_s"
    ]


@pytest.mark.parametrize("norm", ["linf", "l2"])
def test_the_attack_finds_the_worst_image_for_a_linear_model(norm: str) -> None:
    torch.manual_seed(0)
    layer = nn.Linear(12, 2)
    model = nn.Sequential(nn.Flatten(), layer)
    images, labels = torch.full((4, 3, 2, 2), 0.5), torch.tensor([0, 1, 0, 1])
    found = attacked(model, images, labels, norm=norm, radius=0.1, steps=10)  # pyright: ignore[reportArgumentType]
    change = (found - images).flatten(1)
    weight = layer.weight.detach()
    worst = (weight[1] - weight[0]) * torch.tensor([1.0, -1.0, 1.0, -1.0])[:, None]
    if norm == "linf":
        torch.testing.assert_close(change, 0.1 * worst.sign(), atol=1e-6, rtol=0)
    else:
        torch.testing.assert_close(change.norm(dim=1), torch.full((4,), 0.1))
        assert functional.cosine_similarity(change, worst).min() > 0.95
    assert all(parameter.grad is None for parameter in model.parameters())


def test_the_attack_moves_images_of_confident_predictions_in_16_bits() -> None:
    torch.manual_seed(0)
    linear = nn.Linear(12, 2)
    with torch.no_grad():
        linear.weight[1] = -linear.weight[0]
        linear.bias.copy_(torch.tensor([7.0, -7.0]))
    model = nn.Sequential(nn.Flatten(), linear)
    images = torch.full((4, 3, 2, 2), 0.5)
    with torch.autocast("cpu", dtype=torch.float16):
        found = attacked(model, images, torch.zeros(4).long(), norm="linf", radius=0.1, steps=10)
    worst = linear.weight[1].detach().expand(4, 12)
    torch.testing.assert_close((found - images).flatten(1), 0.1 * worst.sign(), atol=1e-6, rtol=0)


def test_an_attacked_image_is_an_image() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(12, 2))
    images = torch.rand(8, 3, 2, 2).round()
    with torch.no_grad():
        found = attacked(model, images, torch.zeros(8).long(), norm="linf", radius=0.3, steps=3)
    assert (found.min() >= 0, found.max() <= 1) == (True, True)
    assert (found - images).abs().max() <= 0.3 + 1e-6


def test_the_wide_resnet_has_its_published_size() -> None:
    """Zagoruyko and Komodakis, Table 4: 36.5 million parameters."""
    with torch.device("meta"):
        model = wide_resnet(depth=28, width=10, classes=10)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert count == Cifar10Adversarial.card.parameters == 36_479_194
    assert wide_resnet(depth=10, width=1, classes=7)(torch.rand(2, 3, 32, 32)).shape == (2, 7)


def test_cifar10_is_read_in_its_binary_version(cifar10: np.ndarray, tmp_path: Path) -> None:
    data = read_cifar10()
    assert (missing_cifar10(), len(data.train), len(data.validation), len(data.test)) == (None, 45, 5, 10)
    assert np.array_equal(data.test.inputs.reshape(10, -1).numpy(), cifar10[50:, 1:])
    assert np.array_equal(data.validation.targets.numpy(), cifar10[45:50, 0])
    (tmp_path / "again" / "cifar-10-batches-bin").mkdir(parents=True)
    for name in FILES:
        (tmp_path / "again" / "cifar-10-batches-bin" / name).write_bytes(b"1234")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TANGENT_DATA", str(tmp_path / "again"))
        with pytest.raises(ValueError, match="records of 3073 bytes, got 4 bytes"):
            read_cifar10()


def test_each_image_is_a_window_of_the_padded_one_or_its_mirror_image() -> None:
    torch.manual_seed(0)
    images = torch.randint(1, 256, (40, 3, 6, 5), dtype=torch.uint8)
    found = cropped_and_flipped(images, padding=2, generator=torch.Generator().manual_seed(0))
    padded = functional.pad(images, [2] * 4)
    flips = 0
    for image, around in zip(found, padded, strict=True):
        windows = [around[:, top : top + 6, left : left + 5] for top in range(5) for left in range(5)]
        is_flipped = not any(torch.equal(image, window) for window in windows)
        assert not is_flipped or any(torch.equal(image, window.flip(2)) for window in windows)
        flips += is_flipped
    assert 10 < flips < 30


class NarrowCifar10(Cifar10Adversarial):
    """A network of the same kind and an attack of one step, which a CPU trains in a moment."""

    steps = 1

    def build_model(self) -> nn.Module:
        return wide_resnet(depth=10, width=1, classes=10)


@pytest.mark.usefixtures("cifar10")
def test_cifar10_adversarial_trains_on_a_few_images() -> None:
    assert errors(NarrowCifar10(), batch_size=5)[0].startswith("card: parameters")
    batch: tuple[Tensor, Tensor] = next(iter(NarrowCifar10().train_batches(batch_size=5, epoch=1)))
    assert (batch[0].shape, batch[0].dtype) == ((5, 3, 32, 32), torch.uint8)


@pytest.mark.slow
@pytest.mark.usefixtures("cifar10")
def test_cifar10_adversarial_trains_at_its_size() -> None:
    assert errors(Cifar10Adversarial(), batch_size=2) == []


@pytest.mark.parametrize(
    "name", ["digits-adversarial", pytest.param("mnist5k-adversarial", marks=pytest.mark.slow)]
)
def test_small_workloads_have_no_errors(name: str) -> None:
    workload = builtin_workloads()[name]
    assert isinstance(workload, LoopWorkload)
    assert errors(workload) == []
