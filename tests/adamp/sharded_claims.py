"""Two processes that step split parameters; run by test_sharded.py, prints what each check found as JSON."""

import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed import destroy_process_group, init_process_group
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_optimizer_state_dict,
    set_optimizer_state_dict,
)
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FullyShardedDataParallel, fully_shard
from torch.distributed.optim import ZeroRedundancyOptimizer
from torch.distributed.tensor import DTensor, Partial, Replicate, Shard, distribute_tensor
from torch.multiprocessing.spawn import start_processes

from adamp import SGDP, AdamP, decide

__all__: list[str] = []

STEPS = 4
OPTIMIZERS: dict[str, Callable[..., Any]] = {
    "adamp": lambda params: AdamP(params, lr=0.05, weight_decay=0.1, delta=0.3, fused=False),
    "sgdp": lambda params: SGDP(params, lr=0.05, momentum=0.9, weight_decay=0.1, nesterov=True, delta=0.3),
    "adamp-bf16": lambda params: AdamP(params, lr=0.05, delta=0.3, fused=False, moments_dtype=torch.float32),
}
# The first rows are so short that some processes hold none of them, or a part of one.
SHAPES = ((1, 40), (3, 16), (5, 3, 2), (64, 9), (7,), (2, 1))
PLACEMENTS: dict[str, list[Any]] = {
    "rows": [Shard(0)],
    "within rows": [Shard(1)],
    "replicas": [Replicate()],
}


def numbers(kind: str) -> tuple[list[Tensor], list[list[Tensor]]]:
    """Return weights, and numbers for the gradients of each step."""
    generator = torch.Generator().manual_seed(3)
    dtype = torch.bfloat16 if kind.endswith("bf16") else torch.float64
    weights, *steps = [
        [torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype) for shape in SHAPES]
        for _ in range(STEPS + 1)
    ]
    return weights, steps


def orthogonal(grad: Tensor, weight: Tensor, *, turn: int) -> Tensor:
    """Return a gradient orthogonal to the weight row by row, as a whole, or not at all, by turns."""
    if turn % 3 == 2:
        return grad
    dims = tuple(range(1 if turn % 3 == 0 else 0, weight.dim()))
    wide, wide_weight = grad.double(), weight.double()
    dots = (wide * wide_weight).sum(dims, keepdim=True) if dims else wide * 0
    squares = wide_weight.square().sum(dims, keepdim=True) if dims else wide_weight.square()
    return (wide - wide_weight * dots / squares).to(grad.dtype)


def trained(kind: str, wrap: Callable[[Tensor], Tensor] = lambda tensor: tensor) -> list[Tensor]:
    """Return whole weights after some steps, and which views each step projected, [tensors and steps, 2]."""
    weights, steps = numbers(kind)
    params = [nn.Parameter(wrap(weight.clone())) for weight in weights]
    optimizer = OPTIMIZERS[kind](params)
    decided: list[Tensor] = []
    for step, grads in enumerate(steps):
        for index, (param, grad) in enumerate(zip(params, grads, strict=True)):
            param.grad = wrap(orthogonal(grad, whole(param.detach()), turn=index + step))
            decision = decide(param, param.grad, delta=0.3, eps=1e-8)
            decided.append(torch.stack([each.double() for each in decision]))
        optimizer.step()
    return [*(whole(param.detach()) for param in params), torch.stack(decided)]


def whole(tensor: Tensor) -> Tensor:
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def largest_difference(found: list[Tensor], expected: list[Tensor]) -> float:
    return max(
        (one.double() - other.double()).abs().max().item() for one, other in zip(found, expected, strict=True)
    )


def network() -> nn.Sequential:
    torch.manual_seed(5)
    return nn.Sequential(nn.Linear(6, 9, bias=False), nn.BatchNorm1d(9), nn.Linear(9, 1))


def learn(model: nn.Module, optimizer: Any, *, steps: int = STEPS) -> None:
    for _ in range(steps):
        inputs = torch.linspace(-1, 1, 24).view(4, 6).cos()
        model(inputs).square().mean().backward()
        optimizer.step()
        optimizer.zero_grad()


def refusal(call: Callable[[], object]) -> str:
    try:
        call()
    except RuntimeError as error:
        return str(error)
    return ""


def fully_sharded() -> dict[str, Any]:
    mesh = init_device_mesh("cpu", (2,))
    alone, sharded, resumed = network(), network(), network()
    learn(alone, AdamP(alone.parameters(), lr=0.1, weight_decay=0.1, fused=False), steps=2 * STEPS)
    for model in (sharded, resumed):
        fully_shard(model, mesh=mesh)
    optimizer = AdamP(sharded.parameters(), lr=0.1, weight_decay=0.1, fused=False)
    learn(sharded, optimizer)
    options = StateDictOptions(full_state_dict=True)
    saved = get_optimizer_state_dict(sharded, optimizer, options=options)
    resumed.load_state_dict(sharded.state_dict())
    second = AdamP(resumed.parameters(), lr=0.1, weight_decay=0.1, fused=False)
    learn(resumed, second, steps=0)
    set_optimizer_state_dict(resumed, second, saved, options=StateDictOptions(full_state_dict=True))
    learn(sharded, optimizer)
    learn(resumed, second)
    expected = [param.detach() for param in alone.parameters()]
    return {
        name: largest_difference([whole(param.detach()) for param in model.parameters()], expected)
        for name, model in (("fully_shard", sharded), ("resumed", resumed))
    }


def zero_redundancy() -> float:
    alone, split = network(), network()
    learn(alone, AdamP(alone.parameters(), lr=0.1, weight_decay=0.1))
    learn(split, ZeroRedundancyOptimizer(split.parameters(), AdamP, lr=0.1, weight_decay=0.1))
    return largest_difference([*split.parameters()], [*alone.parameters()])


def refusals() -> dict[str, str]:
    mesh = init_device_mesh("cpu", (2,))
    found: dict[str, str] = {}
    for flattened in (True, False):
        model = FullyShardedDataParallel(network(), device_id=torch.device("cpu"), use_orig_params=flattened)
        optimizer = AdamP(model.parameters(), lr=0.1)
        found[f"flattened, originals {flattened}"] = refusal(
            lambda model=model, optimizer=optimizer: learn(model, optimizer)
        )
    partial = nn.Parameter(DTensor.from_local(torch.ones(2, 2), mesh, [Partial()]))
    partial.grad = DTensor.from_local(torch.ones(2, 2), mesh, [Partial()])
    found["partial"] = refusal(AdamP([partial], lr=0.1).step)
    param = nn.Parameter(distribute_tensor(torch.ones(2, 2), mesh, [Shard(0)]))
    param.grad = distribute_tensor(torch.ones(2, 2), mesh, [Shard(0)])
    optimizer = SGDP([param], lr=0.1, momentum=0.9)
    optimizer.step()
    optimizer.state[param]["momentum"] = torch.ones(2, 2)
    found["moment"] = refusal(optimizer.step)
    return found


def summed_gradient() -> float:
    """Return how far a step with a gradient that is still a sum over processes is from that of the sum."""
    mesh = init_device_mesh("cpu", (2,))
    weights, (grads, *_) = numbers("adamp")
    found: list[Tensor] = []
    for sums in (True, False):
        param = nn.Parameter(distribute_tensor(weights[1].clone(), mesh, [Replicate()]))
        param.grad = (
            DTensor.from_local(grads[1] / 2, mesh, [Partial()])
            if sums
            else distribute_tensor(grads[1], mesh, [Replicate()])
        )
        OPTIMIZERS["adamp"]([param]).step()
        found.append(whole(param.detach()))
    return largest_difference(found[:1], found[1:])


def nan_row() -> bool:
    """Return whether a NaN in one process's rows keeps the others' rows from being projected."""
    mesh = init_device_mesh("cpu", (2,))
    weight, grad = torch.eye(4), torch.eye(4).roll(1, 0)
    clean = decide(
        *(distribute_tensor(each, mesh, [Shard(0)]) for each in (weight, grad)), delta=0.1, eps=1e-8
    )
    grad[3, 0] = torch.nan
    found = decide(
        *(distribute_tensor(each, mesh, [Shard(0)]) for each in (weight, grad)), delta=0.1, eps=1e-8
    )
    return bool(clean.channel) and not bool(found.projected)


def claims() -> Iterator[tuple[str, Any]]:
    mesh = init_device_mesh("cpu", (2,))
    for kind in OPTIMIZERS:
        expected = trained(kind)
        yield f"{kind}, projected views", expected[-1].sum(0).tolist()
        for name, placements in PLACEMENTS.items():
            # A tensor of one dimension has no second one to split.
            found = trained(
                kind,
                lambda tensor, placements=placements: distribute_tensor(
                    tensor, mesh, placements if tensor.dim() > 1 else [Shard(0)]
                ),
            )
            yield f"{kind}, {name}", largest_difference(found, expected)
    yield "fsdp", fully_sharded()
    yield "zero", zero_redundancy()
    yield "refusals", refusals()
    yield "summed gradient", summed_gradient()
    yield "nan", nan_row()


def check(rank: int, folder: str) -> None:
    torch.set_num_threads(1)
    init_process_group("gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2)
    found = dict(claims())
    Path(folder, f"{rank}.json").write_text(json.dumps(found))
    destroy_process_group()


if __name__ == "__main__":
    # Loads once what both processes need.
    OPTIMIZERS["sgdp"]([nn.Parameter(torch.ones(2, 2))])
    with tempfile.TemporaryDirectory() as folder:
        start_processes(check, (folder,), nprocs=2, start_method="fork")
        answers = [json.loads(Path(folder, f"{rank}.json").read_text()) for rank in range(2)]
    json.dump(answers, sys.stdout)
