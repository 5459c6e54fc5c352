"""The training state of K members: weights, moments, buffers and clocks, one row per member."""

__all__ = ["Rows"]

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import torch
from torch import Tensor

from workers.checkpoints import CheckpointUnusable
from workers.memory import is_out_of_memory
from workers.pack_protocol import Member
from workers.stacked.plan import StackPlan


@dataclass(frozen=True, kw_only=True)
class Rows:
    """K members' state; training changes the tensors in place.

    Attributes:
        weights: [K, P] trained parameters.
        moments: the optimizer's state tensors, each [K, P].
        buffers: the models' other stacked tensors, each [K, *shape].
        elapsed_s: [K] training seconds so far, on the CPU.
        average: [K, P] moving average of the weights, which is evaluated instead of them or beside them;
            None if no member has one.
    """

    weights: Tensor
    moments: Mapping[str, Tensor]
    buffers: Mapping[str, Tensor]
    elapsed_s: Tensor
    average: Tensor | None = None

    @classmethod
    def initial(cls, members: Sequence[Member], plan: StackPlan) -> "Rows":
        """Return the members' rows before their first step, on the CPU."""
        starts = [plan.initial[member.seed] for member in members]
        weights = torch.stack([plan.layout.row(start) for start in starts])
        return cls(
            weights=weights,
            moments={name: torch.zeros_like(weights) for name in plan.optimizer.moments},
            buffers={name: torch.stack([start[name] for start in starts]) for name in plan.buffer_names},
            elapsed_s=torch.zeros(len(members), dtype=torch.float64),
            average=weights.clone() if plan.has_average else None,
        )

    @classmethod
    def resumed(
        cls, members: Sequence[Member], states: Sequence[Mapping[str, Any]], plan: StackPlan
    ) -> "Rows":
        """Return the rows of members that resume from their checkpoints, on the CPU.

        Args:
            members: the trials.
            states: the result of `checkpoint` for each of them, from any engine.
            plan: the plan of their pack.

        Raises:
            CheckpointUnusable: a state does not fit this model and optimizer.
        """
        try:
            moments = [_moments(state["optimizer"], state["model"], plan) for state in states]
            pairs = [
                (state["model"], plan.initial[member.seed])
                for member, state in zip(members, states, strict=True)
            ]
            return cls(
                weights=torch.stack([plan.layout.row(state["model"]) for state in states]).to(plan.dtype),
                moments={
                    name: torch.stack([each[name] for each in moments]).to(plan.dtype)
                    for name in plan.optimizer.moments
                },
                buffers={
                    name: torch.stack([_buffer(model, start, name) for model, start in pairs])
                    for name in plan.buffer_names
                },
                elapsed_s=torch.tensor([float(state["elapsed_s"]) for state in states], dtype=torch.float64),
                average=torch.stack([_average(state, plan) for state in states]).to(plan.dtype)
                if plan.has_average
                else None,
            )
        except (AttributeError, IndexError, KeyError, RuntimeError, TypeError, ValueError) as error:
            if is_out_of_memory(error):
                raise
            raise CheckpointUnusable(
                f"expected the state of a trial with this model and optimizer, got one that does not fit: "
                f"{error}"
            ) from error

    @classmethod
    def concatenated(cls, parts: Sequence["Rows"]) -> "Rows":
        """Return the rows of several stacks as one stack, in the same order."""
        return cls(
            weights=torch.cat([part.weights.detach() for part in parts]),
            moments={name: torch.cat([part.moments[name] for part in parts]) for name in parts[0].moments},
            buffers={name: torch.cat([part.buffers[name] for part in parts]) for name in parts[0].buffers},
            elapsed_s=torch.cat([part.elapsed_s for part in parts]),
            average=None
            if parts[0].average is None
            else torch.cat([cast("Tensor", part.average) for part in parts]),
        )

    def select(self, rows: Sequence[int]) -> "Rows":
        """Return a copy of some rows, in this order; a row may be repeated."""
        return self._each(lambda tensor: tensor.detach()[torch.tensor(rows, device=tensor.device)])

    def to(self, device: torch.device) -> "Rows":
        """Return the rows on a device, without copying those already there; clocks stay on the CPU."""
        return replace(self._each(lambda tensor: tensor.detach().to(device)), elapsed_s=self.elapsed_s)

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Rows":
        return Rows(
            weights=change(self.weights),
            moments={name: change(tensor) for name, tensor in self.moments.items()},
            buffers={name: change(tensor) for name, tensor in self.buffers.items()},
            elapsed_s=change(self.elapsed_s),
            average=None if self.average is None else change(self.average),
        )


def _moments(optimizer: Mapping[str, Any], model: Mapping[str, Tensor], plan: StackPlan) -> dict[str, Tensor]:
    """Return one member's moments as rows [P]; those that its optimizer does not keep are 0.

    SGD without momentum, for example, keeps none.
    """
    entries = {name: optimizer["state"].get(index, {}) for index, name in enumerate(plan.trained_names)}
    return {
        moment: plan.layout.row(
            {name: entries[name].get(moment, torch.zeros_like(model[name])) for name in entries}
        )
        for moment in plan.optimizer.moments
    }


def _average(state: Mapping[str, Any], plan: StackPlan) -> Tensor:
    """Return one member's average weights as a row [P]; without a decay of its own they are its weights."""
    return plan.layout.row(state.get("update", {}).get("average", state["model"]))


def _buffer(model: Mapping[str, Tensor], start: Mapping[str, Tensor], name: str) -> Tensor:
    """Return a buffer from the saved model, or as built if it is not part of the model's state."""
    found = model.get(name, start[name])
    if found.shape != start[name].shape:
        raise ValueError(f"expected {name} of shape {list(start[name].shape)}, got {list(found.shape)}")
    return found
