"""The equivalence check accepts members that can be stacked, and gives a readable reason for all others."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from packs import CPU, OPTIMIZERS, WORKLOADS, data_of, member, pack_of, shortened, story, train
from torch import Tensor, nn
from torch.nn import functional

from workers.pack_protocol import Pack
from workers.stacked.equivalence_check import why_not_stackable
from workers.workloads import Data, TensorWorkload
from workers.workloads.float64 import in_float64

__all__: list[str] = []

MLP = WORKLOADS["digits-mlp"]


class Of(TensorWorkload):
    """The digits workload with another model, and optionally another loss."""

    card = MLP.card

    def __init__(
        self,
        model: Callable[[], nn.Module],
        loss: Callable[[Tensor, Tensor], Tensor] = functional.cross_entropy,
    ) -> None:
        self._model, self._loss = model, loss

    def load_data(self, device: torch.device) -> Data:
        return data_of(MLP).to(device)

    def build_model(self) -> nn.Module:
        return nn.Sequential(nn.Flatten(), self._model())

    def loss(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return self._loss(outputs, targets)

    def metric_sum(self, outputs: Tensor, targets: Tensor) -> Tensor:
        return (outputs.argmax(dim=-1) == targets).to(outputs.dtype).sum()


def dropping() -> nn.Module:
    return nn.Sequential(nn.Linear(64, 32), nn.ReLU(), nn.Dropout(0.3), nn.Linear(32, 10))


class Odd(nn.Module):
    """A linear layer followed by a given function."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        return self.after(self.linear(inputs))

    def after(self, outputs: Tensor) -> Tensor:
        return outputs


class Branching(Odd):
    def after(self, outputs: Tensor) -> Tensor:
        return outputs if outputs.sum() > 0 else 2 * outputs


class Masking(Odd):
    def after(self, outputs: Tensor) -> Tensor:
        return outputs - outputs[outputs > 0].mean()


class Wasteful(Odd):
    """A model with an unused layer, which an optimizer skips alone but would decay in a stack."""

    def __init__(self) -> None:
        super().__init__()
        self.spare = nn.Linear(3, 3)


class Remembering(Odd):
    """A model that writes into a buffer outside its state, which is therefore not stacked."""

    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scale", torch.ones(()), persistent=False)

    def after(self, outputs: Tensor) -> Tensor:
        scaled = outputs * self.scale.clone()
        if self.training:
            self.scale.mul_(scaled.detach().square().mean())
        return scaled


def pack(
    workload: TensorWorkload, optimizer: str = "adamw", *, seeds: tuple[int, int] = (1, 1), **settings: Any
) -> Pack:
    return pack_of(
        workload,
        optimizer,
        *(
            member(optimizer, name, seed=seed, lr=lr)
            for name, seed, lr in zip("ab", seeds, (0.01, 0.002), strict=True)
        ),
        **settings,
    )


def why(workload: TensorWorkload, optimizer: str = "adamw", *, seeds: tuple[int, int] = (1, 1)) -> str | None:
    return why_not_stackable(
        pack(workload, optimizer, seeds=seeds),
        workload=workload,
        entry=OPTIMIZERS[optimizer],
        data=data_of(MLP),
        device=CPU,
    )


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("seeds", [(1, 1), (1, 2)])
def test_every_built_in_workload_can_be_stacked(name: str, seeds: tuple[int, int]) -> None:
    workload = WORKLOADS[name]
    data = shortened(data_of(workload), 2 * workload.card.batch_size, 8)
    assert (
        why_not_stackable(
            pack(workload, "adamp", seeds=seeds),
            workload=workload,
            entry=OPTIMIZERS["adamp"],
            data=data,
            device=CPU,
        )
        is None
    )


def test_the_reason_names_an_optimizer_without_a_batched_form() -> None:
    assert why(MLP, "lion") == "Trials are trained one by one: Lion has no batched form."


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (Branching, "looks at a tensor's value"),
        (Masking, "looks at a tensor's value"),
        (Wasteful, "leaves parameters unused"),
        (Remembering, "'1.scale' of the model changes in training"),
        (
            lambda: nn.Sequential(nn.Linear(64, 8), nn.BatchNorm1d(8, momentum=None), nn.Linear(8, 10)),
            "looks at a tensor's value",
        ),
        (
            lambda: nn.Sequential(nn.Linear(64, 8).to(torch.bfloat16), nn.Linear(8, 10)),
            "these are bfloat16 and float32",
        ),
        (lambda: nn.Linear(3, 10), "training one of them alone for 2 steps raised RuntimeError"),
    ],
    ids=["branch", "mask", "unused", "in-place", "batch-norm", "dtypes", "broken"],
)
def test_a_model_that_cannot_be_stacked_is_rejected_with_a_reason(
    model: Callable[[], nn.Module], reason: str
) -> None:
    found = why(Of(model))
    assert found is not None
    assert found.startswith("Trials are trained one by one: ")
    assert reason in found
    assert found.endswith(".")


def test_members_of_a_rejected_workload_train_one_by_one_and_the_report_has_the_reason() -> None:
    workload = Of(Branching)
    one, two = (
        train(pack(workload, width=width, epochs=1), workload, shortened(data_of(MLP), 96, 32))
        for width in (1, 2)
    )
    assert story(one, "a") == story(two, "a")
    assert one[0].stack_width is None
    assert two[0].stack_width is not None
    assert two[0].stack_width.width == 1
    assert "looks at a tensor's value" in (two[0].stack_width.reason or "")


def test_stacked_members_with_one_seed_draw_the_same_dropout_as_alone() -> None:
    workload = Of(dropping)
    assert why(workload) is None
    data = shortened(data_of(MLP), 320, 64)
    alone, together = (train(pack(workload, width=width), workload, data) for width in (1, 2))
    for name in "ab":
        for (mine, _), (theirs, _) in zip(story(alone, name), story(together, name), strict=True):
            assert theirs.train_loss == pytest.approx(mine.train_loss, rel=1e-4)


class Attending(nn.Module):
    """Attention with dropout, and noise, over four tokens of an image."""

    def __init__(self) -> None:
        super().__init__()
        self.mix, self.out = nn.Linear(16, 16), nn.Linear(64, 10)

    def forward(self, inputs: Tensor) -> Tensor:
        tokens = inputs.reshape(-1, 4, 16)
        if self.training:
            tokens = tokens + 0.1 * torch.randn_like(tokens) * torch.rand(16, dtype=tokens.dtype)
        mixed = self.mix(tokens)
        rate = 0.2 if self.training else 0.0
        return self.out(
            functional.scaled_dot_product_attention(mixed, mixed, tokens, dropout_p=rate).flatten(1)
        )


@pytest.mark.parametrize("model", [dropping, Attending])
def test_stacked_members_with_seeds_of_their_own_draw_the_same_dropout_as_alone(
    model: Callable[[], nn.Module],
) -> None:
    workload, data = in_float64(Of(model), shortened(data_of(MLP), 320, 64))
    assert why(workload, seeds=(1, 2)) is None
    members = [member("adamw", name, seed=seed) for seed, name in enumerate("abc")]
    alone, together = (
        train(pack_of(workload, "adamw", *members, width=width), workload, data) for width in (1, 3)
    )
    for name in "abc":
        for (mine, _), (theirs, _) in zip(story(alone, name), story(together, name), strict=True):
            assert theirs.train_loss == pytest.approx(mine.train_loss, rel=1e-12)


class Shuffling(Odd):
    """A model that draws an order of its features, in each step another one."""

    def after(self, outputs: Tensor) -> Tensor:
        return outputs[:, torch.randperm(10)] if self.training else outputs


def test_an_order_that_is_drawn_in_the_model_is_not_stacked_with_different_seeds() -> None:
    assert why(Of(Shuffling)) is None
    assert "aten.randperm" in (why(Of(Shuffling), seeds=(1, 2)) or "")


def test_rounding_noise_in_a_zero_gradient_does_not_prevent_stacking() -> None:
    # The gradient of the bias before the norm is rounding noise, which Adam turns into whole steps in
    # float32.
    assert (
        why(Of(lambda: nn.Sequential(nn.Linear(64, 16), nn.BatchNorm1d(16), nn.Linear(16, 10))), "adam")
        is None
    )
