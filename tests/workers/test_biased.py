"""Biased data: colours follow the classes as often as said, and ReBias measures dependence."""

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from workers.workload_check import check_workload
from workers.workloads import LoopWorkload, builtin_workloads, configured
from workers.workloads.biased import (
    COLOURS,
    FullBiasedMnist,
    Mnist5kBiased,
    NetworkPair,
    bias_of,
    coloured,
    dependence,
)

__all__: list[str] = []

CPU = torch.device("cpu")


@pytest.mark.parametrize(
    ("rho", "own", "others"), [(0.99, 990, {1, 2}), (0.1, 100, {100}), (1.0, 1000, set())]
)
def test_a_share_of_each_class_has_its_colour_and_the_others_have_all(
    rho: float, own: int, others: set[int]
) -> None:
    labels = torch.arange(10).repeat(1000)
    colours = bias_of(labels, rho=rho)
    counts = torch.zeros(10, 10).index_put((labels, colours), torch.ones(()), accumulate=True)
    assert counts.diagonal().tolist() == [own] * 10
    rest = counts[~torch.eye(10).bool()]
    # Ten images are divided among nine colours two by two, as in clovaai/rebias.
    assert set(rest.unique().int().tolist()) - {0} == (others if rho < 0.9 else others - {1})
    assert torch.equal(colours, bias_of(labels, rho=rho))


def test_a_digit_is_white_on_its_colour() -> None:
    digit = torch.zeros(1, 1, 2, 2)
    digit[0, 0, 0, 0] = 0.2
    image = coloured(digit, torch.tensor([6]))
    assert image[0, :, 0, 0].tolist() == [1.0, 1.0, 1.0]
    torch.testing.assert_close((image[0, :, 1, 1] + 1) * 127.5, torch.tensor(COLOURS[6]).float())


def test_dependence_is_the_unbiased_estimate() -> None:
    """The sum over all quadruples of different examples (Song et al., 2012, equation 4)."""
    torch.manual_seed(0)
    one, other = torch.randn(6, 3).double(), torch.randn(6, 2).double()
    k, l = (torch.exp(-torch.cdist(x, x).square() / 2) for x in (one, other))  # noqa: E741
    terms = [
        k[a, b] * (l[a, b] + l[c, d] - 2 * l[a, c]) for a, b, c, d in itertools.permutations(range(6), 4)
    ]
    torch.testing.assert_close(dependence(one, other), torch.stack(terms).mean())
    assert dependence(one, one) > dependence(one, other)


def test_dependence_is_measured_in_float32_and_of_equal_features() -> None:
    torch.manual_seed(0)
    one, other = (10 + torch.rand(32, 16)).bfloat16(), torch.rand(32, 16).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = dependence(one, other)
    torch.testing.assert_close(found, dependence(one.double(), other.double()).float(), atol=1e-6, rtol=1e-3)
    equal = torch.full((32, 16), 0.3, requires_grad=True)
    dependence(equal, other.float(), is_adaptive=True).backward()
    assert equal.grad is not None
    assert equal.grad.isfinite().all()


def test_each_network_of_a_pair_has_its_own_loss() -> None:
    torch.manual_seed(0)
    pair = Mnist5kBiased().build_model()
    images, labels = torch.randn(8, 3, 28, 28), torch.arange(8)
    assert pair.biased is not None
    pair.loss(images, labels).backward()
    found = [parameter.grad.clone() for parameter in pair.parameters() if parameter.grad is not None]
    pair.zero_grad()
    (features, logits), (others, other_logits) = pair.network(images), pair.biased(images)
    own = functional.cross_entropy(logits, labels) + dependence(features, others)
    its = functional.cross_entropy(other_logits, labels) - dependence(features, others)
    expected = [
        *torch.autograd.grad(own, tuple(pair.network.parameters()), retain_graph=True),
        *torch.autograd.grad(its, tuple(pair.biased.parameters())),
    ]
    torch.testing.assert_close(found, expected)


class ColourReader(nn.Module):
    """Returns the class whose colour the corner of an image has."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        palette = torch.tensor(COLOURS) / 127.5 - 1
        logits = -(images[:, None, :, 0, 0] - palette).abs().sum(2)
        return logits, logits


def test_a_network_that_reads_the_colour_is_right_on_biased_images_only() -> None:
    found = Mnist5kBiased().evaluate(NetworkPair(ColourReader(), None), "test", device=CPU)
    assert (found["biased accuracy"], found["unbiased accuracy"]) == (1.0, 0.1)


def idx(values: np.ndarray) -> bytes:
    """Return a file of MNIST's format."""
    return bytes([0, 0, 8, values.ndim]) + np.array(values.shape, dtype=">i4").tobytes() + values.tobytes()


@pytest.fixture
def mnist(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hundred training images and twenty test images in MNIST's four files."""
    monkeypatch.setenv("TANGENT_DATA", str(tmp_path))
    assert "raw/train-images-idx3-ubyte" in (FullBiasedMnist().missing() or "")
    folder = tmp_path / "MNIST" / "raw"
    folder.mkdir(parents=True)
    draws = np.random.default_rng(0)
    for name, count in (("train", 96), ("t10k", 20)):
        images = (draws.integers(0, 256, (count, 28, 28)) * (draws.random((count, 28, 28)) < 0.2)).astype(
            np.uint8
        )
        (folder / f"{name}-images-idx3-ubyte").write_bytes(idx(images))
        (folder / f"{name}-labels-idx1-ubyte").write_bytes(idx((np.arange(count) % 10).astype(np.uint8)))
    return folder


@pytest.mark.usefixtures("mnist")
def test_mnist_is_read_in_its_own_format() -> None:
    workload = FullBiasedMnist()
    data = workload.digits()
    assert (workload.missing(), len(data.train), len(data.validation), len(data.test)) == (None, 88, 8, 20)
    assert data.test.inputs.shape == (20, 1, 28, 28)
    assert data.validation.targets.tolist() == [n % 10 for n in range(88, 96)]
    assert workload.card.parameters == sum(p.numel() for p in workload.build_model().parameters())


class NarrowBiasedMnist(FullBiasedMnist):
    """Networks of the same kind that a CPU trains in a moment."""

    channels = (3, 4, 8)
    strides = (2, 2)


@pytest.mark.usefixtures("mnist")
@pytest.mark.parametrize(
    "workload", [NarrowBiasedMnist(), pytest.param(FullBiasedMnist(), marks=pytest.mark.slow)]
)
def test_biased_mnist_trains_on_a_few_images(workload: FullBiasedMnist) -> None:
    found = errors(workload, batch_size=8)
    assert [each for each in found if not each.startswith("card: parameters")] == []


def test_a_file_that_is_not_of_mnist_is_named(mnist: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = mnist.parent.parent / "other" / "MNIST" / "raw"
    other.mkdir(parents=True)
    for file in mnist.iterdir():
        (other / file.name).write_bytes(b"compressed")
    monkeypatch.setenv("TANGENT_DATA", str(other.parent.parent))
    with pytest.raises(ValueError, match="train-images-idx3-ubyte to be one of MNIST's files"):
        FullBiasedMnist().digits()


def errors(workload: LoopWorkload, batch_size: int | None = None) -> list[str]:
    found = check_workload(workload, device=CPU, batch_size=batch_size)
    return [
        f"{each.check}: {each.sentence}"
        for each in found
        if each.status in ("error", "warning") and each.check != "card: epoch_s"
    ]


@pytest.mark.parametrize("rebias", [True, False])
def test_small_workloads_have_no_errors(*, rebias: bool) -> None:
    workload = builtin_workloads()["mnist5k-biased"]
    assert isinstance(workload, LoopWorkload)
    found = errors(configured(workload, {"workload.rebias": rebias}))
    assert found == [] or (not rebias and len(found) == 1 and found[0].startswith("card: parameters"))
