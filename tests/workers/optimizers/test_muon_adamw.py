"""Muon and AdamW as one optimizer."""

import copy
import pickle

import pytest
import torch
from torch import nn
from torch.optim import AdamW, Muon
from toy_regression import build_model, train

from studies.space import Parameters
from workers.optimizers import build_optimizer, load_optimizers
from workers.optimizers.muon import MuonAdamW, hidden_matrices, hidden_weights

__all__: list[str] = []

ENTRY = load_optimizers()["muon"]


class TiedLanguageModel(nn.Module):
    """A model with an embedding that is also the output layer, learned positions, and a hidden matrix."""

    def __init__(self) -> None:
        super().__init__()
        self.table = nn.Embedding(7, 4)
        self.positions = nn.Parameter(torch.zeros(5, 4))
        self.hidden = nn.Linear(4, 4)
        self.output = nn.Linear(4, 7, bias=False)
        self.output.weight = self.table.weight


def built(model: nn.Module) -> MuonAdamW:
    optimizer = build_optimizer(ENTRY, model, ENTRY.card.defaults, decay_1d=False)
    assert isinstance(optimizer, MuonAdamW)
    return optimizer


def test_only_hidden_matrices_go_to_muon() -> None:
    assert [tuple(p.shape) for p in hidden_matrices(build_model())] == [(6, 12)]
    model = TiedLanguageModel()
    assert hidden_matrices(model) == [model.hidden.weight]
    muons = [p for group in built(model).param_groups if "momentum" in group for p in group["params"]]
    assert muons == [model.hidden.weight]


def test_a_model_without_hidden_matrices_is_trained_by_adamw_alone() -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 1)).double()
    other = copy.deepcopy(model)
    adamw = AdamW(other.parameters(), lr=1e-3, weight_decay=0.1)
    optimizer = build_optimizer(ENTRY, model, ENTRY.card.defaults, decay_1d=True)
    assert torch.equal(train(model, optimizer, steps=3), train(other, adamw, steps=3))


def test_each_part_takes_the_same_steps_as_alone() -> None:
    one, two = build_model(), build_model()
    hidden = hidden_matrices(two)
    rest = [p for p in two.parameters() if all(p is not h for h in hidden)]
    parts = [
        Muon(hidden, lr=1e-3, weight_decay=0.1, adjust_lr_fn="match_rms_adamw"),
        AdamW(rest, lr=1e-3, weight_decay=0.1),
    ]
    optimizer = build_optimizer(ENTRY, one, ENTRY.card.defaults, decay_1d=True)
    assert torch.equal(train(one, optimizer, steps=5), train(two, parts, steps=5))


@pytest.mark.parametrize(("given", "adamw_lr"), [({}, 0.01), ({"adamw_lr": 0.3}, 0.3)])
def test_adamw_has_its_own_learning_rate_or_muons(given: Parameters, adamw_lr: float) -> None:
    model = build_model()
    optimizer = build_optimizer(ENTRY, model, ENTRY.card.defaults | {"lr": 0.01} | given, decay_1d=False)
    found = {group["lr"] for group in optimizer.param_groups if "momentum" in group}
    assert found == {0.01}
    assert {group["lr"] for group in optimizer.param_groups if "betas" in group} == {adamw_lr}


def test_one_state_holds_both_parts_and_a_loaded_one_is_used() -> None:
    model = build_model()
    optimizer = built(model)
    train(model, optimizer, steps=2)
    assert len(optimizer.state) == len(list(model.parameters()))
    saved = copy.deepcopy(optimizer.state_dict())
    optimizer.load_state_dict(saved)
    momentum = optimizer.state[hidden_matrices(model)[0]]["momentum_buffer"].clone()
    train(model, optimizer, steps=1)
    assert not torch.equal(optimizer.state[hidden_matrices(model)[0]]["momentum_buffer"], momentum)


def test_a_copy_steps_its_own_parameters() -> None:
    model = build_model()
    optimizer = built(model)
    train(model, optimizer, steps=2)
    twin_model, twin = copy.deepcopy((model, optimizer))
    assert torch.equal(train(twin_model, twin, steps=2), train(model, optimizer, steps=2))
    assert len(pickle.loads(pickle.dumps(optimizer)).param_groups) == len(optimizer.param_groups)


def test_the_closures_loss_is_returned() -> None:
    model = build_model()
    assert built(model).step(lambda: torch.tensor(2.5)) == 2.5


def test_muon_for_convolutions_steps_them_as_matrices_of_their_filters() -> None:
    model = build_model()
    assert [p.ndim for p in hidden_weights(model)] == [4, 2]
    weights = [nn.Parameter(torch.ones(2, 3, 1, 2)), nn.Parameter(torch.ones(2, 6))]
    generator = torch.Generator().manual_seed(0)
    grad = torch.randn(2, 6, generator=generator)
    for weight in weights:
        weight.grad = grad.reshape(weight.shape)
    MuonAdamW([{"params": weights[:1], "set_apart": True}]).step()
    Muon(weights[1:], adjust_lr_fn="match_rms_adamw").step()
    assert torch.equal(weights[0].flatten(1), weights[1])


def test_the_memory_format_of_a_convolution_does_not_change_its_steps() -> None:
    torch.manual_seed(0)
    plain = nn.Conv2d(3, 4, 2, bias=False)
    other = copy.deepcopy(plain)
    # torch's types of `Module.to` leave out a memory format alone.
    other.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    assert not other.weight.is_contiguous()
    images = torch.randn(5, 3, 6, 6)
    start = plain.weight.detach().clone()
    for model, given in ((plain, images), (other, images.to(memory_format=torch.channels_last))):
        optimizer = MuonAdamW([{"params": [model.weight], "set_apart": True}], lr=0.1, weight_decay=0.0)
        for _ in range(3):
            optimizer.zero_grad()
            model(given).square().mean().backward()
            optimizer.step()
    assert (plain.weight - start).abs().min() > 0
    torch.testing.assert_close(other.weight, plain.weight, rtol=0.0, atol=1e-3)
