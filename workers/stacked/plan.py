"""The plan shared by all stacks of a pack: model, layout, initial values and the pack's settings."""

__all__ = ["NotStackable", "StackPlan"]

import copy

import torch
from torch import Tensor, nn

from workers.batch_order import BatchOrder
from workers.named_metrics import evaluated_metrics
from workers.optimizers import OptimizerEntry, build_optimizer
from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.optimizer import StackedOptimizer
from workers.pack_protocol import Pack
from workers.seeding import initialisation_seed, seeded
from workers.stacked.constants import constants_of, first_difference
from workers.stacked.obstacles import model_obstacle, optimizer_obstacle
from workers.workloads import Data, TensorWorkload


class NotStackable(Exception):
    """The model cannot be stacked; the message gives the reason."""


class StackPlan:
    """The plan for stacking the members of a pack.

    Args:
        pack: the members and their settings; each configuration is checked as it is for training alone.
        workload: what to train.
        entry: an optimizer with a batched form.
        data: the workload's data, on `device`.
        device: where to train.

    Attributes:
        template: one model on `device`, for its code; its tensors are used only as constants that all members
            share.
        layout: the columns of each trained parameter in a row.
        trained_names: names of the trained parameters, in the order of the optimizer's own groups.
        buffer_names: names of the other stacked tensors: frozen parameters, and buffers that are part of the
            model's state or differ between members.
        state_names: the name of the tensor here for each key of the model's state dictionary.
        initial: parameters and buffers as built, on the CPU, for each distinct seed.
        optimizer: class of the batched optimizer.
        metrics: the metrics that are evaluated, with which weights.
        has_average: whether any member has an average of its weights.
        order: the batches of each epoch.
        steps: steps in an epoch, or in the interval that replaces it.

    Raises:
        NotStackable: the user's code in a model or an optimizer would not run as it does alone; the models
            differ outside their parameters and buffers; or the trained parameters have several dtypes, or one
            too narrow to accumulate sums in.
        ValueError: from the optimizer, if a configuration is not legal.
    """

    def __init__(
        self, pack: Pack, *, workload: TensorWorkload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> None:
        assert entry.stacked is not None
        self.pack, self.workload, self.entry, self.data, self.device = pack, workload, entry, data, device
        self.optimizer: type[StackedOptimizer] = entry.stacked
        self.metrics = evaluated_metrics(workload, pack.objective_metric, pack.training)
        self.has_average = any(pack.settings_of(member).ema_decay > 0 for member in pack.members)
        models = {
            member.seed: self._build(member.seed)
            for member in {member.seed: member for member in pack.members}.values()
        }
        first = next(iter(models.values()))
        optimizers = [
            build_optimizer(entry, first, member.parameters, decay_1d=pack.training.decay_1d)
            for member in pack.members
        ]
        # After the optimizers, which may add hooks to the parameters.
        for model in models.values():
            _raise_unless_none(model_obstacle(model))
        for member, optimizer in zip(pack.members, optimizers, strict=True):
            _raise_unless_none(
                optimizer_obstacle(
                    optimizer, own_class=self.optimizer.own_class, lr=float(member.parameters["lr"])
                )
            )
        names = {id(parameter): name for name, parameter in first.named_parameters()}
        self.trained_names = tuple(
            names[id(parameter)] for group in optimizers[0].param_groups for parameter in group["params"]
        )
        self.initial = {seed: _tensors(model) for seed, model in models.items()}
        self.template = copy.deepcopy(first).to(device)
        self.layout = Layout(self.template, decay_1d=pack.training.decay_1d)
        self.dtype = _dtype(self.template)
        self.state_names = _canonical(self.template)
        state, trained = set(first.state_dict()), {slot.name for slot in self.layout.slots}
        # A constant outside the state, such as an attention mask, would cost K times its memory for nothing.
        self.buffer_names = tuple(
            name
            for name, tensor in _tensors(first).items()
            if name not in trained
            and (
                name in state or any(not torch.equal(tensor, start[name]) for start in self.initial.values())
            )
        )
        self.order = BatchOrder(
            examples=len(data.train),
            batch_size=pack.training.batch_size,
            accumulation_steps=pack.training.accumulation_steps,
            interval_steps=pack.interval_steps,
        )
        self.steps = self.order.steps
        constants = [self.constants_of(model) for model in models.values()]
        for other in constants[1:]:
            differing = first_difference(constants[0], other)
            if differing is not None:
                raise NotStackable(
                    f"{differing!r} of the model depends on the seed and is not a parameter or a buffer, "
                    "which all members of a stack share"
                )

    def constants_of(self, model: nn.Module) -> dict[str, object]:
        """Return copies of what a model of this workload holds outside the rows of a stack."""
        return constants_of(model, rows={*self.buffer_names, *(slot.name for slot in self.layout.slots)})

    def _build(self, seed: int) -> nn.Module:
        # Build the models on the CPU, so that a seed gives the same initial values on every device.
        with seeded(initialisation_seed(seed), device=torch.device("cpu")):
            return self.workload.build_model()


def _raise_unless_none(obstacle: str | None) -> None:
    if obstacle is not None:
        raise NotStackable(obstacle)


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _canonical(model: nn.Module) -> dict[str, str]:
    """Return each key of the state dictionary with its tensor's first name; tied parameters have several."""
    first: dict[int, str] = {}
    for name, tensor in (
        *model.named_parameters(remove_duplicate=False),
        *model.named_buffers(remove_duplicate=False),
    ):
        first.setdefault(id(tensor), name)
    return {name: first[id(tensor)] for name, tensor in model.state_dict(keep_vars=True).items()}


def _dtype(model: nn.Module) -> torch.dtype:
    dtypes = {parameter.dtype for parameter in model.parameters() if parameter.requires_grad}
    if dtypes not in ({torch.float32}, {torch.float64}):
        found = " and ".join(sorted(str(dtype).removeprefix("torch.") for dtype in dtypes))
        raise NotStackable(
            "the trained parameters of a stack must be all float32, or all float64; these are "
            f"{found or 'missing'}"
        )
    return dtypes.pop()
