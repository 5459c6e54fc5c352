"""Comparison with trajectories and a checkpoint of PyPI `adamp` 0.3.0 (see tests/golden/README.md)."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from adamp_oracle import Array, adamp_weights, sgdp_weights, view_projected
from torch.optim.optimizer import Optimizer

import adamp

__all__: list[str] = []

GOLDEN = Path(__file__).parents[1] / "golden"
ORACLES: dict[str, Any] = {"AdamP": adamp_weights, "SGDP": sgdp_weights}


class Trajectory:
    """One golden run: start [*shape], grads and weights [12, *shape].

    It repeats the same steps with our optimizer and with the oracle.
    """

    def __init__(self, arrays: Any, case: dict[str, Any]) -> None:
        self.optimizer, self.kwargs, self.shape = case["optimizer"], case["kwargs"], tuple(case["shape"])
        self.start, self.grads, self.weights = (
            np.array(arrays[f"{case['key']}_{part}"]) for part in ("w0", "grads", "w")
        )

    def ours(self) -> Array:
        weight = torch.nn.Parameter(torch.tensor(self.start))
        optimizer = getattr(adamp, self.optimizer)([weight], **self.kwargs)
        weights: list[Array] = []
        for grad in self.grads:
            weight.grad = torch.tensor(grad)
            optimizer.step()
            weights.append(weight.detach().numpy().copy())
        return np.stack(weights)

    def oracle(self, **kwargs: Any) -> Array:
        return np.stack(ORACLES[self.optimizer](self.start, self.grads, **self.kwargs, **kwargs))

    def projected(self) -> list[bool]:
        """Return the steps at which the reference projected."""
        before = [self.start, *self.weights[:-1]]
        delta = self.kwargs.get("delta", 0.1)
        return [
            view_projected(g, w, delta=delta, eps=1e-8) is not None
            for g, w in zip(self.grads, before, strict=True)
        ]


def load(name: str) -> list[Trajectory]:
    with np.load(GOLDEN / name) as arrays:
        return [Trajectory(arrays, case) for case in json.loads(bytes(arrays["index"]))]


def label(run: Trajectory) -> str:
    return "-".join(
        [
            run.optimizer,
            "x".join(map(str, run.shape)),
            *(f"{name}={value}" for name, value in run.kwargs.items()),
        ]
    )


AGREED = load("reference-0.3.0.npz")
HEAVY_BALL = load("reference-0.3.0-sgdp-heavy-ball.npz")


@pytest.mark.parametrize("run", AGREED, ids=label)
def test_we_agree_with_the_reference(run: Trajectory) -> None:
    np.testing.assert_allclose(run.ours(), run.weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("run", AGREED, ids=label)
def test_the_oracle_agrees_with_the_reference(run: Trajectory) -> None:
    np.testing.assert_allclose(run.oracle(), run.weights, rtol=0, atol=1e-12)


def test_the_golden_runs_contain_projected_and_unprojected_steps() -> None:
    fired = [
        flag
        for run in AGREED
        if len(run.shape) > 1 and run.kwargs.get("delta", 0.1) > 0
        for flag in run.projected()
    ]
    assert 0.5 < np.mean(fired) < 0.9


@pytest.mark.parametrize("run", HEAVY_BALL, ids=label)
def test_heavy_ball_follows_the_paper(run: Trajectory) -> None:
    np.testing.assert_allclose(run.ours(), run.oracle(), rtol=0, atol=1e-12)


@pytest.mark.parametrize("run", HEAVY_BALL, ids=label)
def test_the_reference_differs_from_the_paper_only_in_the_projected_buffer(run: Trajectory) -> None:
    np.testing.assert_allclose(run.oracle(projects_buffer=True), run.weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize("run", [run for run in HEAVY_BALL if len(run.shape) > 1], ids=label)
def test_heavy_ball_differs_from_the_reference_after_it_reuses_a_projected_buffer(run: Trajectory) -> None:
    """Step 1 projects a gradient with no component along w. Step 2 removes one from the reference's buffer.

    The trajectories therefore differ from step 3.
    """
    error = np.abs(run.ours() - run.weights).reshape(len(run.weights), -1).max(axis=1)
    assert run.projected()[:2] == [True, True]
    assert error[:2].max() < 1e-12
    assert error[2:].min() > 1e-3


@pytest.mark.parametrize("run", [run for run in HEAVY_BALL if len(run.shape) == 1], ids=label)
def test_heavy_ball_agrees_with_the_reference_if_nothing_is_projected(run: Trajectory) -> None:
    np.testing.assert_allclose(run.ours(), run.weights, rtol=0, atol=1e-12)


def continued(
    name: str, *, tensor_step: bool = False
) -> tuple[Optimizer, list[torch.nn.Parameter], dict[str, Any]]:
    """Return our optimizer with the reference's checkpoint loaded, its weights, and the checkpoint."""
    checkpoint = torch.load(GOLDEN / "reference-0.3.0-checkpoint.pt", weights_only=True)[name]
    weights = [torch.nn.Parameter(weight.clone()) for weight in checkpoint["weights"]]
    optimizer = getattr(adamp, name)([{"params": weights[:1]}, {"params": weights[1:]}], lr=1.0)
    state = checkpoint["optimizer"]
    if tensor_step:
        for moments in state["state"].values():
            moments["step"] = torch.tensor(float(moments["step"]))
    optimizer.load_state_dict(state)
    return optimizer, weights, checkpoint


@pytest.mark.parametrize(("name", "tensor_step"), [("AdamP", False), ("AdamP", True), ("SGDP", False)])
def test_a_checkpoint_of_the_reference_resumes_as_in_the_reference(name: str, tensor_step: bool) -> None:
    optimizer, weights, checkpoint = continued(name, tensor_step=tensor_step)
    for step in range(len(checkpoint["grads"][0])):
        for weight, grads in zip(weights, checkpoint["grads"], strict=True):
            weight.grad = grads[step]
        optimizer.step()
    for weight, final in zip(weights, checkpoint["final"], strict=True):
        torch.testing.assert_close(weight.detach(), final, rtol=0, atol=1e-12)


@pytest.mark.parametrize("tensor_step", [False, True])
def test_our_checkpoint_has_the_format_of_the_reference(tensor_step: bool) -> None:
    optimizer, _, checkpoint = continued("AdamP", tensor_step=tensor_step)
    ours, theirs = optimizer.state_dict(), checkpoint["optimizer"]
    assert [set(moments) for moments in ours["state"].values()] == [{"step", "exp_avg", "exp_avg_sq"}] * 2
    assert [type(moments["step"]) for moments in ours["state"].values()] == [int, int]
    for group, reference in zip(ours["param_groups"], theirs["param_groups"], strict=True):
        assert {name: group[name] for name in reference} == reference
        assert set(group) - set(reference) == {
            "maximize",
            "foreach",
            "capturable",
            "differentiable",
            "fused",
            "moments_dtype",
        }


def test_loading_a_checkpoint_does_not_change_it() -> None:
    _, _, checkpoint = continued("AdamP", tensor_step=True)
    assert all(
        isinstance(moments["step"], torch.Tensor) for moments in checkpoint["optimizer"]["state"].values()
    )


ADAMP_NAMES = ("lr", "betas", "eps", "weight_decay", "delta", "wd_ratio", "nesterov")
SGDP_NAMES = ("lr", "momentum", "dampening", "weight_decay", "nesterov", "eps", "delta", "wd_ratio")


@pytest.mark.parametrize(
    ("build", "names", "given", "defaults"),
    [
        (
            adamp.AdamP,
            ADAMP_NAMES,
            (0.5, (0.8, 0.9), 1e-6, 0.25, 0.3, 0.4, True),
            (1e-3, (0.9, 0.999), 1e-8, 0, 0.1, 0.1, False),
        ),
        (
            adamp.SGDP,
            SGDP_NAMES,
            (0.5, 0.7, 0.2, 0.25, True, 1e-6, 0.3, 0.4),
            (0.5, 0, 0, 0, False, 1e-8, 0.1, 0.1),
        ),
    ],
)
def test_arguments_order_and_defaults_match_the_reference(
    build: Any, names: tuple[str, ...], given: tuple[Any, ...], defaults: tuple[Any, ...]
) -> None:
    def values(optimizer: Optimizer) -> tuple[Any, ...]:
        return tuple(optimizer.param_groups[0][name] for name in names)

    weight = torch.nn.Parameter(torch.zeros(2, 2))
    assert values(build([weight], *given)) == given
    assert values(build([weight], defaults[0])) == defaults
    assert build is adamp.SGDP or values(build([weight])) == defaults
