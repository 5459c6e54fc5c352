"""What all stacks of a pack share.

The model's code and layout, the members' starts, and the settings of the pack.
"""

__all__ = ["NotStackable", "StackPlan"]

import copy

import torch
from torch import Tensor, nn

from workers.optimizers import OptimizerEntry, build_optimizer
from workers.optimizers.batched.layout import Layout
from workers.optimizers.batched.optimizer import StackedOptimizer
from workers.pack_protocol import Pack
from workers.seeding import initialisation_seed, seeded
from workers.workloads import Data, Workload


class NotStackable(Exception):
    """A model cannot be stacked, for the reason that the message tells."""


class StackPlan:
    """How the members of a pack are stacked.

    Args:
        pack: the members and their settings; every configuration is checked as for training alone.
        workload: what is trained.
        entry: an optimizer with a batched form.
        data: the workload's data, on `device`.
        device: where to train.

    Attributes:
        template: one model on `device`, which gives the code; its own numbers stand only for constants that
            all members share.
        layout: how trained parameters lie in a row.
        kept: names of what else is stacked: frozen parameters, and buffers that belong to the model's state
            or differ between members.
        order: the trained parameters' names in the order of the optimizer's own groups.
        names: every key of the model's state dictionary, with the name that its tensor has elsewhere here.
        starts: every distinct seed's parameters and buffers as built, on the CPU.
        optimizer: the batched form's class.

    Raises:
        NotStackable: the trained parameters are of several dtypes, or of one too narrow to keep sums in.
        ValueError: from the optimizer, for a configuration that is not legal.
    """

    def __init__(
        self, pack: Pack, *, workload: Workload, entry: OptimizerEntry, data: Data, device: torch.device
    ) -> None:
        assert entry.stacked is not None
        self.pack, self.workload, self.entry, self.data, self.device = pack, workload, entry, data, device
        self.optimizer: type[StackedOptimizer] = entry.stacked
        models = {
            member.seed: self._build(member.seed)
            for member in {member.seed: member for member in pack.members}.values()
        }
        first = next(iter(models.values()))
        optimizers = [
            build_optimizer(entry, first, member.parameters, decay_1d=pack.decay_1d)
            for member in pack.members
        ]
        names = {id(parameter): name for name, parameter in first.named_parameters()}
        self.order = tuple(
            names[id(parameter)] for group in optimizers[0].param_groups for parameter in group["params"]
        )
        self.starts = {seed: _tensors(model) for seed, model in models.items()}
        self.template = copy.deepcopy(first).to(device)
        self.layout = Layout(self.template, decay_1d=pack.decay_1d)
        self.dtype = _dtype(self.template)
        self.names = _canonical(self.template)
        state, trained = set(first.state_dict()), {slot.name for slot in self.layout.slots}
        # A constant that is no part of the state, such as an attention mask, would cost K times its memory
        # for nothing.
        self.kept = tuple(
            name
            for name, tensor in _tensors(first).items()
            if name not in trained
            and (name in state or any(not torch.equal(tensor, start[name]) for start in self.starts.values()))
        )
        self.steps = len(data.train) // pack.batch_size

    def _build(self, seed: int) -> nn.Module:
        # Built on the CPU whatever the device, so that a seed means the same start everywhere.
        with seeded(initialisation_seed(seed), device=torch.device("cpu")):
            return self.workload.build_model()


def _tensors(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.detach() for name, tensor in (*model.named_parameters(), *model.named_buffers())}


def _canonical(model: nn.Module) -> dict[str, str]:
    """Return for each key of the state dictionary the first name of its tensor.

    Tied parameters have several.
    """
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
            "only models whose trained parameters are all float32, or all "
            f"float64, are stacked; these are {found}"
        )
    return dtypes.pop()
