"""Random streams: a trial's seed alone fixes its initial values, data order and noise.

The optimizer, the device and the other trials of a pack have no influence. Every stream is derived from the
seed by numpy's `SeedSequence`, whose streams are documented to be reproducible, and drawn on the CPU, so that
neither the number of threads nor the state of the global generators matters. Nothing here leaves a global
torch generator changed.
"""

__all__ = ["epoch_order", "initialisation_seed", "noise_seed", "seeded"]

from collections.abc import Generator
from contextlib import contextmanager
from enum import IntEnum

import numpy as np
import torch
from torch import Tensor


class _Stream(IntEnum):
    INITIALISATION = 1
    ORDER = 2
    NOISE = 3


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


def epoch_order(seed: int, *, epoch: int, examples: int) -> Tensor:
    """Return the order of the training examples in an epoch: a permutation, int64 [examples], on the CPU.

    It depends on the trial's seed and the epoch alone, so training can resume at any epoch without the state
    of a generator.
    """
    generator = torch.Generator().manual_seed(_draw(seed, _Stream.ORDER, epoch))
    return torch.randperm(examples, generator=generator)


@contextmanager
def seeded(seed: int, *, device: torch.device) -> Generator[None]:
    """Seed torch's generators of the CPU and of `device` for the block, and restore them afterwards.

    Only torch is covered. A model that draws from `random` or numpy's global generator is not reproducible.
    """
    devices = [device] if device.type == "cuda" else []
    # Torch leaves `devices` untyped.
    with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
        # torch.manual_seed would also reseed GPUs that are not forked here.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
