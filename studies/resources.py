"""What a study says about the machines that it needs: CPUs, GPUs, processes, time and priority."""

__all__ = ["RESOURCE_STEP", "PriorityName", "Resources"]

from typing import Final, Literal, Self

from pydantic import Field, model_validator

from studies.frozen_model import FrozenModel

RESOURCE_STEP: Final = 0.0001
"""The smallest part of a CPU or GPU that Ray counts."""
PriorityName = Literal["low", "normal", "high"]

# 30 days.
_MAX_SECONDS = 2_592_000


class Resources(FrozenModel):
    """What each pack occupies, and how many packs may run at once.

    A pack of a trial of several processes occupies what its processes occupy together. What is left out of
    `cpus_per_pack` and `cpus_per_process` follows from the other; `studies.resolve` refuses a contradiction.
    """

    processes_per_trial: int = Field(
        default=1,
        gt=0,
        le=1024,
        strict=True,
        description=(
            "Processes that train each trial together with torch.distributed, each on its share of every "
            "batch; above 1, a pack has one trial."
        ),
    )
    cpus_per_process: float | None = Field(
        default=None,
        gt=0,
        le=1024,
        allow_inf_nan=False,
        description="CPU cores of each process; by default `cpus_per_pack` divided by the processes, or 1.",
    )
    gpus_per_process: float | None = Field(
        default=None,
        ge=0,
        le=64,
        json_schema_extra={"maximum": 1},
        allow_inf_nan=False,
        description=(
            "GPUs of each process; by default `gpus_per_pack` divided by the processes. Several processes "
            "need a whole GPU each, or none."
        ),
    )
    shard_optimizer: bool = Field(
        default=False,
        strict=True,
        description=(
            "True: each process keeps the optimizer's state of a part of the parameters only "
            "(ZeroRedundancyOptimizer), which saves memory."
        ),
    )
    # Stored studies may have a smaller part of a CPU than Ray can reserve, and more than one GPU.
    # `studies.resolve` refuses both for new ones.
    cpus_per_pack: float = Field(
        default=1.0,
        gt=0,
        le=1024,
        json_schema_extra={"minimum": RESOURCE_STEP},
        allow_inf_nan=False,
        description="CPU cores per pack, at least 0.0001.",
    )
    gpus_per_pack: float = Field(
        default=0.0,
        ge=0,
        le=64,
        json_schema_extra={"maximum": 1},
        allow_inf_nan=False,
        description="GPUs per pack, at most 1; a fraction, at least 0.0001, lets packs share a GPU.",
    )
    max_concurrent_packs: int | None = Field(
        default=None,
        gt=0,
        le=100_000,
        strict=True,
        description=(
            "Most packs that run at once; by default as many as fit. Together with `max_pack_size` 1, a "
            "value of 1 makes a study exactly repeatable."
        ),
    )
    max_pack_size: int | None = Field(
        default=None,
        gt=0,
        le=100_000,
        strict=True,
        description="Most trials in one pack; by default the number that the worker found fastest.",
    )
    epoch_timeout_s: float | None = Field(
        default=None,
        gt=0,
        le=_MAX_SECONDS,
        allow_inf_nan=False,
        description=(
            "Seconds without a finished epoch after which a pack counts as hung: its process is killed and "
            "its trials are retried. By default an hour, or twenty times the epoch time on the workload's "
            "card times the trials in the pack if that is longer."
        ),
        examples=[600],
    )
    priority: PriorityName = Field(
        default="normal",
        description=(
            "Which studies run first and get the larger share of the machines when several wait. Only an "
            "admin may set 'high'."
        ),
    )

    @model_validator(mode="after")
    def _filled_in(self) -> Self:
        # The model is frozen for callers; here it is still being built.
        for kind, default in (("cpus", 1.0), ("gpus", 0.0)):
            of_pack, of_process = f"{kind}_per_pack", f"{kind}_per_process"
            if getattr(self, of_process) is None:
                if self.processes_per_trial == 1:
                    continue
                is_given = of_pack in self.model_fields_set
                amount = getattr(self, of_pack) / self.processes_per_trial if is_given else default
                object.__setattr__(self, of_process, amount)
            if of_pack not in self.model_fields_set:
                amount = getattr(self, of_process) * self.processes_per_trial
                object.__setattr__(self, of_pack, amount)
        return self
