"""Muon for a model's hidden matrices and AdamW for all other parameters, as one optimizer."""

__all__ = ["ENTRIES", "MuonAdamW", "hidden_matrices"]

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import AdamW, Muon, Optimizer

from studies.catalog import Bounds, Hyperparameter, OptimizerCard
from studies.recipe import arguments
from studies.space import Parameters, Range
from workers.optimizers import hyperparameters as h
from workers.optimizers.registry import OptimizerEntry, ParameterGroup

_PREPARATION = """\
tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
outputs = [m.weight for m in model.modules() if isinstance(m, nn.Linear)][-1:]
apart = {id(p) for p in tables + outputs}
hidden = [p for n, p in model.named_parameters() if p.ndim == 2 \
and "weight" in n.rpartition(".")[2] and id(p) not in apart]
rest = [p for p in model.parameters() if all(p is not h for h in hidden)]"""

_MUON = OptimizerCard(
    name="muon",
    title="Muon (AdamW for the rest)",
    description=(
        "Muon (in bfloat16) steps hidden matrices along their orthogonalised momentum. AdamW steps "
        "embeddings, the output layer, biases, norms, and convolutions, whose weights have more than two "
        "dimensions; a network of convolutions and one linear layer is therefore trained by AdamW alone. "
        "Both share one weight decay, and one lr unless a study sets adamw_lr."
    ),
    reference=(
        "Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is "
        "Scalable for LLM Training, 2025, arXiv:2502.16982"
    ),
    import_line="from torch import nn\nfrom torch.optim import AdamW, Muon",
    constructor="Muon",
    # Otherwise Muon's steps would be larger than AdamW's by a factor that depends on the matrix, and the two
    # could not share one lr, as they do by default.
    arguments={"adjust_lr_fn": "match_rms_adamw"},
    preparation=_PREPARATION,
    call="[Muon({groups:hidden}, {args:lr weight_decay momentum nesterov ns_steps adjust_lr_fn}), "
    "AdamW({params:rest}, {args:lr=adamw_lr betas weight_decay})]",
    hyperparameters=(
        h.adam_lr(1e-3, note=" Muon's steps are scaled to the usual size of AdamW's steps."),
        h.adam_lr(1e-3).model_copy(
            update={
                "name": "adamw_lr",
                "description": "Learning rate of AdamW, for the parameters that Muon does not step.",
                "tuned": False,
                "follows": "lr",
            }
        ),
        h.decoupled_decay(0.1),
        h.momentum(0.95, tuned=False, description="Decay rate of Muon's momentum buffer, per step."),
        h.nesterov(
            default=True,
            tuned=False,
            source="a switch; Jordan et al. turn it on",
            description="Orthogonalise g + momentum * buffer instead of the buffer.",
        ),
        Hyperparameter(
            name="ns_steps",
            description="Newton-Schulz iterations that orthogonalise Muon's step.",
            unit="iteration",
            default=5,
            search=Range(low=3, high=8, integer=True),
            source="Jordan et al. use 5; a few more on both sides",
            tuned=False,
            bounds=Bounds(low=1, high=99),
        ),
        h.beta1(description="For AdamW: decay rate of the running mean of the gradient, per step."),
        h.beta2(description="For AdamW: decay rate of the running mean of the squared gradient, per step."),
    ),
    pairs={"betas": ("beta1", "beta2")},
)


def hidden_matrices(model: nn.Module) -> list[nn.Parameter]:
    """Return the model's 2-D weights except embedding tables and the output layer.

    The last linear layer counts as the output layer. A 2-D parameter without "weight" in its own name, such
    as learned positions, counts as a table rather than a map between layers.

    Source: Jordan et al. 2024, which leave embeddings, the output layer, gains and biases to AdamW.
    """
    tables = [m.weight for m in model.modules() if isinstance(m, nn.Embedding)]
    outputs = [m.weight for m in model.modules() if isinstance(m, nn.Linear)][-1:]
    apart = {id(p) for p in tables + outputs}
    return [
        p
        for name, p in model.named_parameters()
        if p.ndim == 2 and "weight" in name.rpartition(".")[2] and id(p) not in apart
    ]


class MuonAdamW(Optimizer):
    """An optimizer with torch's Muon for groups marked `set_apart` and torch's AdamW for the others.

    Both parts share this optimizer's groups and state, so schedules that write `group["lr"]`, `zero_grad`,
    `state_dict` and `load_state_dict` work as on any torch optimizer, and each part computes exactly what it
    would compute alone.

    Args:
        groups: parameter groups; those with `set_apart=True` may hold only 2-D parameters, and either kind
            may be missing.
        lr: learning rate of Muon, whose steps are scaled to the root mean square that AdamW's usually have
            (0.2 lr).
        adamw_lr: learning rate of AdamW; None: `lr`.
        weight_decay: decoupled weight decay of both parts.
        momentum, nesterov, ns_steps: Muon's arguments; see `torch.optim.Muon`.
        betas: AdamW's decay rates.
        adjust_lr_fn: Muon's rule for scaling its steps.

    Raises:
        ValueError: from Muon and AdamW, for illegal values, or a parameter set apart that is not 2-D.
    """

    def __init__(
        self,
        groups: list[ParameterGroup],
        *,
        lr: float = 1e-3,
        adamw_lr: float | None = None,
        weight_decay: float = 0.1,
        momentum: float = 0.95,
        nesterov: bool = True,
        ns_steps: int = 5,
        betas: tuple[float, float] = (0.9, 0.999),
        adjust_lr_fn: str = "match_rms_adamw",
    ) -> None:
        muon = {
            "momentum": momentum,
            "nesterov": nesterov,
            "ns_steps": ns_steps,
            "adjust_lr_fn": adjust_lr_fn,
        }
        shared = {"lr": lr, "weight_decay": weight_decay}
        adamw = {"betas": betas, "lr": lr if adamw_lr is None else adamw_lr}
        super().__init__([{**(muon if g.get("set_apart") else adamw), **g} for g in groups], shared)
        self._link()

    def _link(self) -> None:
        """Create both parts on this optimizer's own group and state objects."""
        self._parts: list[Optimizer] = []
        for kind, is_apart in ((Muon, True), (AdamW, False)):
            mine = [g for g in self.param_groups if bool(g.get("set_apart")) == is_apart]
            if mine:
                # torch keeps the given group dicts and only adds missing keys to them.
                part = kind(mine)
                part.state = self.state
                self._parts.append(part)

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Restore loaded or unpickled groups and state, and link the parts to them."""
        super().__setstate__(state)
        self._link()

    @torch.no_grad()
    # Torch overloads step by closure.
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step both parts, and return the closure's loss, or None without a closure."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self._parts:
            part.step()
        return loss


def _build(groups: list[ParameterGroup], parameters: Parameters) -> Optimizer:
    settings: dict[str, Any] = {**arguments(_MUON, parameters)}
    return MuonAdamW(groups, **settings)


ENTRIES: tuple[OptimizerEntry, ...] = (OptimizerEntry(_MUON, _build, set_apart=hidden_matrices),)
