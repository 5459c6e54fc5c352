"""Every workload matches its card, trains, and can be stacked."""

import functools

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, stack_module_state, vmap

from workers.seeding import seeded
from workers.workloads import Data, DataCache, Split, TensorWorkload, builtin_tensor_workloads
from workers.workloads.card_differences import card_differences

__all__: list[str] = []

CPU = torch.device("cpu")
WORKLOADS = builtin_tensor_workloads()

every_workload = pytest.mark.parametrize("workload", WORKLOADS.values(), ids=WORKLOADS.keys())
images = pytest.mark.parametrize("name", ["digits-mlp", "digits-cnn", "mnist5k-cnn"])


@functools.cache
def data_of(workload: TensorWorkload) -> Data:
    return workload.load_data(CPU)


def build(workload: TensorWorkload, seed: int = 0) -> nn.Module:
    with seeded(seed, device=CPU):
        return workload.build_model()


def batch_of(workload: TensorWorkload) -> tuple[Tensor, Tensor]:
    train = data_of(workload).train
    return train.inputs[: workload.card.batch_size], train.targets[: workload.card.batch_size]


@every_workload
def test_the_card_has_the_true_sizes(workload: TensorWorkload) -> None:
    data = data_of(workload)
    assert workload.card.examples == {
        "train": len(data.train),
        "validation": len(data.validation),
        "test": len(data.test),
    }
    assert workload.card.parameters == sum(
        parameter.numel() for parameter in build(workload).parameters() if parameter.requires_grad
    )
    assert workload.card.batch_size <= len(data.train)
    assert card_differences(workload.card, data) == (), "no split shares inputs with another"


@every_workload
def test_loading_data_twice_gives_the_same_data(workload: TensorWorkload) -> None:
    kept, again = data_of(workload), workload.load_data(CPU)
    for split in ("train", "validation", "test"):
        assert torch.equal(getattr(kept, split).inputs, getattr(again, split).inputs)
        assert torch.equal(getattr(kept, split).targets, getattr(again, split).targets)


def test_a_cache_loads_data_once() -> None:
    cache, workload = DataCache(), WORKLOADS["antipode-2d"]
    assert cache.load(workload, device=CPU) is cache.load(workload, device=CPU)
    assert cache.load(workload, device=CPU) is not DataCache().load(workload, device=CPU)


@every_workload
def test_the_seed_determines_the_model(workload: TensorWorkload) -> None:
    first, same, other = (
        torch.cat([p.flatten() for p in build(workload, seed).parameters()]) for seed in (1, 1, 2)
    )
    assert torch.equal(first, same)
    assert not torch.equal(first, other)


@images
def test_splits_share_no_image_and_contain_every_class(name: str) -> None:
    data = data_of(WORKLOADS[name])
    splits = (data.train, data.validation, data.test)
    counts = torch.stack([split.targets.bincount() for split in splits]).double()
    shares = counts / counts.sum(dim=1, keepdim=True)
    torch.testing.assert_close(shares, shares[:1].expand(3, -1), atol=2 / len(data.test), rtol=0.0)
    seen = [{image.numpy().tobytes() for image in split.inputs} for split in splits]
    assert not seen[0] & seen[1] | seen[0] & seen[2] | seen[1] & seen[2]


@images
def test_images_are_standardised_by_the_training_split_alone(name: str) -> None:
    data = data_of(WORKLOADS[name])
    assert data.train.inputs.mean().item() == pytest.approx(0.0, abs=1e-5)
    assert data.train.inputs.std().item() == pytest.approx(1.0, abs=1e-4)
    assert abs(data.test.inputs.mean().item()) > 1e-4


def test_the_text_is_cut_without_overlap_and_targets_are_the_next_characters() -> None:
    data = data_of(WORKLOADS["pydoc-lm"])
    for split in (data.train, data.validation, data.test):
        assert torch.equal(split.inputs.flatten()[1:], split.targets.flatten()[:-1])
    assert data.train.inputs.max() < 97


def test_the_language_model_never_looks_ahead() -> None:
    workload = WORKLOADS["pydoc-lm"]
    model, inputs = build(workload), batch_of(workload)[0][:1].clone()
    before = model(inputs)
    inputs[0, 40] += 1
    after = model(inputs)
    assert torch.equal(before[:, :40], after[:, :40])
    assert not torch.equal(before[:, 40], after[:, 40])


@pytest.mark.parametrize("name", ["rosenbrock-3d", "antipode-2d"])
def test_a_toy_does_not_depend_on_its_weights_norm(name: str) -> None:
    workload = WORKLOADS[name]
    model, (inputs, targets) = build(workload), batch_of(workload)
    loss = workload.loss(model(inputs), targets)
    loss.backward()
    [weight] = model.parameters()
    assert weight.shape[0] == 1
    assert weight.grad is not None
    assert weight.norm().item() == pytest.approx(1.0)
    assert (weight * weight.grad).sum().item() == pytest.approx(0.0, abs=1e-4)
    with torch.no_grad():
        weight *= 7.0
    assert workload.loss(model(inputs), targets).item() == pytest.approx(loss.item(), rel=1e-5)


def test_the_toys_have_their_documented_minima() -> None:
    for name, at in (("rosenbrock-3d", [0.5, 0.5, 0.5**0.5]), ("antipode-2d", [1.0, 1.0])):
        model = build(WORKLOADS[name])
        with torch.no_grad():
            next(model.parameters()).copy_(torch.tensor([at]))
        inputs, targets = batch_of(WORKLOADS[name])
        assert WORKLOADS[name].loss(model(inputs), targets).item() == pytest.approx(0.0, abs=1e-9)


@every_workload
def test_the_metric_is_a_mean_over_examples_for_any_batching(workload: TensorWorkload) -> None:
    model = build(workload).eval()
    inputs, targets = batch_of(workload)
    with torch.no_grad():
        outputs = model(inputs)
        whole = workload.metric_sum(outputs, targets)
        parts = [
            workload.metric_sum(outputs[row : row + 1], targets[row : row + 1]) for row in range(len(inputs))
        ]
    torch.testing.assert_close(torch.stack(parts).sum(), whole)


@every_workload
def test_a_stack_of_two_models_has_the_gradients_of_each(workload: TensorWorkload) -> None:
    # In float64: rounding decides on which side of a kink of ReLU6 an activation lies.
    models = [build(workload, seed).double() for seed in (1, 2)]
    inputs, targets = (part.double() if part.is_floating_point() else part for part in batch_of(workload))
    parameters, buffers = stack_module_state(models)

    def loss(one: dict[str, Tensor], its_buffers: dict[str, Tensor]) -> Tensor:
        return workload.loss(functional_call(models[0], (one, its_buffers), (inputs,)), targets)

    stacked = vmap(grad(loss))(parameters, {name: buffer.clone() for name, buffer in buffers.items()})
    for index, model in enumerate(models):
        workload.loss(model(inputs), targets).backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(stacked[name][index], parameter.grad, atol=1e-5, rtol=1e-3)


def test_a_split_needs_a_target_for_each_input() -> None:
    with pytest.raises(ValueError, match="3 inputs and 2 targets"):
        Split(inputs=torch.zeros(3), targets=torch.zeros(2))
