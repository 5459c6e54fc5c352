"""Random streams: a trial's seed alone fixes its initial values, data order and noise.

The optimizer, the device and the other trials of a pack have no influence. Every stream is derived from the
seed by numpy's `SeedSequence`, whose streams are documented to be reproducible, and drawn on the CPU, so that
neither the number of threads nor the state of the global generators matters. Nothing here leaves a global
generator changed.
"""

__all__ = [
    "GeneratorStates",
    "epoch_order",
    "generator_states",
    "initialisation_seed",
    "noise_seed",
    "pass_seed",
    "seed_generators",
    "seeded",
]

import random
from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from enum import IntEnum
from typing import Any, Self, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class _Stream(IntEnum):
    INITIALISATION = 1
    ORDER = 2
    NOISE = 3
    PASS = 4


def _draw(seed: int, stream: _Stream, index: int) -> int:
    # 53 bits fit a JSON number that every parser keeps exactly, and a signed 64-bit column in SQL.
    return int(
        np.random.SeedSequence(seed, spawn_key=(stream, index)).generate_state(1, np.uint64)[0]
        >> np.uint64(11)
    )


def initialisation_seed(seed: int) -> int:
    """Return the seed with which the model of a trial with this seed is built."""
    return _draw(seed, _Stream.INITIALISATION, 0)


def noise_seed(seed: int, *, epoch: int) -> int:
    """Return the seed of everything else that is random in an epoch, such as dropout; epochs count from 1."""
    return _draw(seed, _Stream.NOISE, epoch)


def pass_seed(seed: int, *, number: int) -> int:
    """Return the seed with which a pass over the data begins that spans several intervals, counted from 1."""
    return _draw(seed, _Stream.PASS, number)


def epoch_order(seed: int, *, epoch: int, examples: int) -> Tensor:
    """Return the order of the training examples in an epoch: a permutation, int64 [examples], on the CPU.

    It depends on the trial's seed and the epoch alone, so training can resume at any epoch without the state
    of a generator.
    """
    generator = torch.Generator().manual_seed(_draw(seed, _Stream.ORDER, epoch))
    return torch.randperm(examples, generator=generator)


def seed_generators(seed: int, *, device: torch.device) -> None:
    """Seed the global generators of torch on the CPU and on `device`, of numpy, and of `random`."""
    # torch.manual_seed would also reseed other GPUs.
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    random.seed(seed)
    # It takes words of 32 bits.
    np.random.seed([seed & 0xFFFFFFFF, seed >> 32])  # noqa: NPY002 # what models draw from


@dataclass(frozen=True)
class GeneratorStates:
    """The states of the global generators: torch's on the CPU and on a GPU, numpy's, and that of `random`."""

    device: torch.device
    cpu: Tensor
    gpu: Tensor | None
    numpy: Any
    python: Any

    @classmethod
    def current(cls, device: torch.device) -> Self:
        """Return the states of now; those of a GPU if the device is one."""
        gpu = torch.cuda.get_rng_state(device) if device.type == "cuda" else None
        return cls(device, torch.get_rng_state(), gpu, np.random.get_state(), random.getstate())  # noqa: NPY002

    def restore(self) -> None:
        """Let the generators continue from here."""
        torch.set_rng_state(self.cpu)
        if self.gpu is not None:
            torch.cuda.set_rng_state(self.gpu, self.device)
        np.random.set_state(self.numpy)  # noqa: NPY002
        random.setstate(self.python)


@contextmanager
def seeded(seed: int, *, device: torch.device) -> Generator[None]:
    """Seed the global generators for the block, and restore them afterwards.

    They are torch's on the CPU and on `device`, numpy's, and the one of `random`. Generators that a model has
    of its own are not covered.
    """
    before = GeneratorStates.current(device)
    seed_generators(seed, device=device)
    try:
        yield
    finally:
        before.restore()


def generator_states(device: torch.device) -> tuple[object, ...]:
    """Return the states of the generators that `seeded` covers; equal if nothing was drawn in between."""
    # numpy's types also describe another form of the state.
    _, words, *rest = cast("tuple[str, NDArray[np.uint32], int, int, float]", np.random.get_state())  # noqa: NPY002
    torch_states = [torch.get_rng_state()]
    if device.type == "cuda":
        torch_states.append(torch.cuda.get_rng_state(device))
    return random.getstate(), words.tobytes(), *rest, *(state.numpy().tobytes() for state in torch_states)
