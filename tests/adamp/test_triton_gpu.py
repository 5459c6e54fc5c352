"""The GPU path on a GPU: the compiled kernels' claims, CUDA graphs, and waits for the device.

Needs only torch, Triton, NumPy and pytest:

PYTHONPATH=.:tests python -m pytest -c /dev/null --rootdir . --noconftest -m gpu
tests/adamp/test_triton_gpu.py
"""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adamp import AdamP
from adamp._settings import AdamPSettings, SGDPSettings
from adamp._triton import TritonPlans, adamp_step, sgdp_step

__all__: list[str] = []

pytestmark = pytest.mark.gpu

HERE = Path(__file__).parent
# Typical tensors of a ResNet and a ViT: rows of 147, 576 and 4,608 elements, one of 75,648, and biases.
SHAPES = [
    (64, 3, 7, 7),
    (64, 64, 3, 3),
    (512, 512, 3, 3),
    (1000, 2048),
    (1000,),
    (1, 197, 384),
    (768, 768),
    (64,),
    (),
    (0, 3),
]
OPTIONS: dict[str, Any] = {
    "eps": 1e-8,
    "weight_decay": 0.01,
    "delta": 0.1,
    "wd_ratio": 0.1,
    "nesterov": False,
    "maximize": False,
}


class Run:
    """Weights on the GPU and their AdamP or SGDP; `lr` is a tensor, so that it can change between replays."""

    def __init__(self, *, is_adam: bool, dtype: torch.dtype = torch.float32) -> None:
        noise = torch.Generator("cuda").manual_seed(0)
        self.weights = [torch.randn(shape, generator=noise, device="cuda").to(dtype) for shape in SHAPES]
        self.firsts = [torch.zeros_like(weight, dtype=torch.float32) for weight in self.weights]
        self.seconds = [torch.zeros_like(weight, dtype=torch.float32) for weight in self.weights]
        self.steps = [torch.zeros((), device="cuda") for _ in self.weights]
        self.lr = torch.full((), 1e-3, device="cuda")
        self.plans, self.is_adam = TritonPlans(), is_adam

    def gradients(self, step: int) -> list[Tensor]:
        """Return gradients that are orthogonal to the rows of every second tensor in every second step."""
        noise = torch.Generator("cuda").manual_seed(1 + step)
        grads = [torch.randn(weight.shape, generator=noise, device="cuda") for weight in self.weights]
        for index, (grad, weight) in enumerate(zip(grads, self.weights, strict=True)):
            if (index + step) % 2 and weight.dim() > 1 and weight.numel():
                g, w = grad.flatten(1), weight.float().flatten(1)
                g -= w * ((g * w).sum(1, keepdim=True) / (w * w).sum(1, keepdim=True))
        return [grad.to(weight.dtype) for grad, weight in zip(grads, self.weights, strict=True)]

    def step(self, grads: list[Tensor], **changes: Any) -> None:
        options = {"lr": self.lr, **OPTIONS, **changes}
        amp = {name: options.pop(name) for name in ("grad_scale", "found_inf") if name in options}
        if self.is_adam:
            settings = AdamPSettings(beta1=0.9, beta2=0.999, **options)
            adamp_step(
                self.weights, grads, self.firsts, self.seconds, self.steps, settings, plans=self.plans, **amp
            )
        else:
            sgdp_step(
                self.weights,
                grads,
                self.firsts,
                SGDPSettings(momentum=0.9, dampening=0.0, **options),
                plans=self.plans,
                **amp,
            )

    def everything(self) -> list[Tensor]:
        return [*self.weights, *self.firsts, *self.seconds, *self.steps]


both = pytest.mark.parametrize("is_adam", [True, False], ids=["adamp", "sgdp"])


def assert_bitwise(left: list[Tensor], right: list[Tensor]) -> None:
    for a, b in zip(left, right, strict=True):
        assert torch.equal(a, b)


def test_the_kernels_pass_their_claims_when_compiled() -> None:
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-c",
        os.devnull,
        "--rootdir",
        ".",
        "--noconftest",
        "-q",
        str(HERE / "triton_claims.py"),
    ]
    roots = os.pathsep.join([str(HERE.parents[1]), str(HERE.parent)])
    environment = {
        **{name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"},
        "PYTHONPATH": roots,
    }
    done = subprocess.run(
        command, env=environment, cwd=HERE.parents[1], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


@both
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_two_identical_runs_are_bitwise_identical_on_a_gpu(is_adam: bool, dtype: torch.dtype) -> None:
    runs = [Run(is_adam=is_adam, dtype=dtype) for _ in range(2)]
    for step in range(4):
        for run in runs:
            run.step(run.gradients(step))
    assert_bitwise(runs[0].everything(), runs[1].everything())


@pytest.fixture
def waits_are_errors() -> Iterator[None]:
    """Make torch raise an error if the host would wait for the device."""
    torch.cuda.set_sync_debug_mode("error")
    yield
    torch.cuda.set_sync_debug_mode("default")


@both
@pytest.mark.usefixtures("waits_are_errors")
def test_no_step_waits_for_the_device(is_adam: bool) -> None:
    run = Run(is_adam=is_adam)
    for step in range(3):
        grads = run.gradients(step)
        run.step(grads, found_inf=torch.zeros(1, device="cuda"), grad_scale=torch.ones(1, device="cuda"))
    with pytest.raises(RuntimeError, match="synchronizing"):
        run.weights[0].sum().item()


@both
def test_replays_of_a_captured_step_equal_eager_steps(is_adam: bool) -> None:
    """This includes eager steps in between, which fill their own tables, and gradients at new addresses."""
    captured, eager = (Run(is_adam=is_adam) for _ in range(2))
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        captured.step(captured.gradients(0))
    torch.cuda.current_stream().wait_stream(side)
    eager.step(eager.gradients(0))
    sources = [torch.empty_like(weight) for weight in captured.weights]
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        # Allocate the gradients in the graph's own memory, as a backward pass would.
        captured.step([source * 1 for source in sources])
    assert_bitwise(captured.everything(), eager.everything())
    for step in range(1, 7):
        for run in (captured, eager):
            run.lr.fill_(1e-3 / step)
        grads = eager.gradients(step)
        eager.step(grads)
        if step in (3, 5):
            captured.step([grad.clone() for grad in grads])
        else:
            for source, grad in zip(sources, grads, strict=True):
                source.copy_(grad)
            graph.replay()
        assert_bitwise(captured.everything(), eager.everything())


def test_two_graphs_of_one_optimizer_do_not_affect_each_other() -> None:
    run, eager = Run(is_adam=True), Run(is_adam=True)
    run.step(run.gradients(0))
    eager.step(eager.gradients(0))
    sources = [[torch.empty_like(weight) for weight in run.weights] for _ in range(2)]
    graphs = [torch.cuda.CUDAGraph() for _ in sources]
    for graph, grads in zip(graphs, sources, strict=True):
        with torch.cuda.graph(graph):
            run.step(grads)
    for step in range(1, 5):
        grads = eager.gradients(step)
        eager.step(grads)
        for source, grad in zip(sources[step % 2], grads, strict=True):
            source.copy_(grad)
        graphs[step % 2].replay()
        assert_bitwise(run.everything(), eager.everything())


def test_a_capture_without_an_earlier_step_raises_an_error() -> None:
    run = Run(is_adam=True)
    grads = run.gradients(0)
    with (
        pytest.raises(RuntimeError, match="one step of the optimizer before its capture"),
        torch.cuda.graph(torch.cuda.CUDAGraph()),
    ):
        run.step(grads)


def test_a_grad_scaler_skips_an_overflowed_step_without_reading_found_inf() -> None:
    """The kernels read the scale and `found_inf` on the device.

    The weights equal those of a run on the plain path without a scaler.
    """
    noise = torch.Generator("cuda").manual_seed(0)
    start, inputs = (
        torch.randn((16, 24), generator=noise, device="cuda"),
        torch.randn((8, 24), generator=noise, device="cuda"),
    )
    scaled, plain = (torch.nn.Parameter(start.clone()) for _ in range(2))
    ours, theirs = (
        AdamP([scaled], lr=0.01, weight_decay=0.1, fused=True),
        AdamP([plain], lr=0.01, weight_decay=0.1, fused=False, foreach=False),
    )
    scaler = torch.amp.GradScaler("cuda", init_scale=1024.0)
    for step in range(6):
        spoilt = step == 3
        before = scaled.detach().clone()
        for weight, factor in ((scaled, float("inf") if spoilt else 1.0), (plain, 1.0)):
            weight.grad = None
            loss = (inputs @ weight.T).square().mean() * factor
            (scaler.scale(loss) if weight is scaled else loss).backward()
        scaler.step(ours)
        scaler.update()
        assert torch.equal(scaled, before) == spoilt
        if not spoilt:
            theirs.step()
    assert scaler.get_scale() == 512.0
    assert float(ours.state[scaled]["step"]) == 5
    torch.testing.assert_close(scaled, plain, rtol=1e-5, atol=1e-6)
