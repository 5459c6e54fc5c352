"""What a user's loop may change for its whole process: kept for the loop, and hidden from everything else."""

__all__ = ["GlobalState"]

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import torch

from workers.seeding import GeneratorStates


@dataclass(frozen=True)
class GlobalState:
    """The process-wide state that a training loop may change.

    It covers the global generators, torch's default dtype and its settings of determinism, precision and
    anomaly detection, the working directory, the environment, and `sys.argv`. What torch keeps by thread,
    such as the default device and autocast, needs no care.
    """

    generators: GeneratorStates
    dtype: torch.dtype
    determinism: tuple[bool, bool]
    precision: str
    cudnn: tuple[bool, bool, bool]
    anomaly: tuple[bool, bool]
    folder: Path | None
    environment: dict[str, str]
    arguments: list[str]

    @classmethod
    def current(cls, device: torch.device) -> Self:
        """Return the state of now; `device` is the one whose generator counts."""
        cudnn: Any = torch.backends.cudnn
        return cls(
            generators=GeneratorStates.current(device),
            dtype=torch.get_default_dtype(),
            determinism=(
                torch.are_deterministic_algorithms_enabled(),
                torch.is_deterministic_algorithms_warn_only_enabled(),
            ),
            precision=torch.get_float32_matmul_precision(),
            cudnn=(cudnn.enabled, cudnn.benchmark, cudnn.deterministic),
            anomaly=(torch.is_anomaly_enabled(), torch.is_anomaly_check_nan_enabled()),
            folder=_working_directory(),
            environment=dict(os.environ),
            arguments=list(sys.argv),
        )

    def apply(self) -> None:
        """Make this the state of the process."""
        now = type(self).current(self.generators.device)
        self.generators.restore()
        if now.dtype != self.dtype:
            torch.set_default_dtype(self.dtype)
        if now.determinism != self.determinism:
            torch.use_deterministic_algorithms(self.determinism[0], warn_only=self.determinism[1])
        if now.precision != self.precision:
            torch.set_float32_matmul_precision(self.precision)
        if now.cudnn != self.cudnn:
            cudnn: Any = torch.backends.cudnn
            cudnn.enabled, cudnn.benchmark, cudnn.deterministic = self.cudnn
        if now.anomaly != self.anomaly:
            torch.set_anomaly_enabled(*self.anomaly)
        if now.folder != self.folder and self.folder is not None and self.folder.is_dir():
            os.chdir(self.folder)
        if now.environment != self.environment:
            for name in now.environment.keys() - self.environment.keys():
                del os.environ[name]
            os.environ.update(self.environment)
        sys.argv[:] = self.arguments


def _working_directory() -> Path | None:
    try:
        return Path.cwd()
    except FileNotFoundError:
        return None
