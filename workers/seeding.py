"""Random streams: a trial's seed fixes its initialisation, data order and noise.

It does so whatever optimizer, device or neighbours it has.

Every stream is derived from the seed alone (numpy's `SeedSequence`, whose streams are documented to be
reproducible) and drawn on the CPU, so neither the number of threads nor the global generators' state plays a
part. Nothing here leaves a global torch generator changed.
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
    # 53 bits: a JSON number that every reader keeps exactly, and a signed 64-bit column in SQL.
    return int(
        np.random.SeedSequence(seed, spawn_key=(stream, index)).generate_state(1, np.uint64)[0]
        >> np.uint64(11)
    )


def initialisation_seed(seed: int) -> int:
    """Return the seed under which a trial's model is built; `seed` is the trial's."""
    return _draw(seed, _Stream.INITIALISATION, 0)


def noise_seed(seed: int, *, epoch: int) -> int:
    """Return the seed of whatever else is random in a trial's epoch, e.g. dropout; epochs count from 1."""
    return _draw(seed, _Stream.NOISE, epoch)


def epoch_order(seed: int, *, epoch: int, examples: int) -> Tensor:
    """Return the order in which a trial sees the training examples in an epoch.

    A permutation, int64 [examples], on the CPU.

    It depends on the trial's seed and the epoch alone, so training can be taken up at any epoch without a
    generator's state.
    """
    generator = torch.Generator().manual_seed(_draw(seed, _Stream.ORDER, epoch))
    return torch.randperm(examples, generator=generator)


@contextmanager
def seeded(seed: int, *, device: torch.device) -> Generator[None]:
    """Run the block with torch's generators of the CPU and of `device` seeded, and restore them afterwards.

    Only torch is covered: a model that draws from `random` or numpy's global generator is not reproducible.
    """
    devices = [device] if device.type == "cuda" else []
    # Torch leaves `devices` untyped.
    with torch.random.fork_rng(devices=devices):  # pyright: ignore[reportUnknownMemberType]
        # torch.manual_seed would also reseed the GPUs that are not forked here.
        torch.default_generator.manual_seed(seed)
        if devices:
            with torch.cuda.device(device):
                torch.cuda.manual_seed(seed)
        yield
