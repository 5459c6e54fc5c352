"""Muon for a model's hidden weights and AdamW for all other parameters, as one optimizer."""

__all__ = ["ENTRIES", "FlatMuon", "MuonAdamW", "hidden_matrices", "hidden_weights"]

from collections.abc import Callable, Iterable, MutableMapping
from typing import Any, cast

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
hidden = [p for n, p in model.named_parameters() if p.ndim %s 2 \
and "weight" in n.rpartition(".")[2] and id(p) not in apart]
rest = [p for p in model.parameters() if all(p is not h for h in hidden)]"""

_REFERENCE = (
    "Jordan et al., Muon: An optimizer for hidden layers in neural networks, 2024; Liu et al., Muon is "
    "Scalable for LLM Training, 2025, arXiv:2502.16982"
)
_SHARES = (
    "AdamW's lr and weight decay, adamw_lr and adamw_weight_decay, follow Muon's unless a study sets or "
    "searches them."
)


def _card(
    name: str, title: str, description: str, *, import_line: str, constructor: str, preparation: str
) -> OptimizerCard:
    return OptimizerCard(
        name=name,
        title=title,
        description=f"{description} {_SHARES}",
        reference=_REFERENCE,
        # Otherwise Muon's steps would be larger than AdamW's by a factor that depends on the matrix, and the
        # two could not share one lr, as they do by default.
        arguments={"adjust_lr_fn": "match_rms_adamw"},
        import_line=import_line,
        constructor=constructor,
        preparation=preparation,
        call=f"[{constructor}({{groups:hidden}}, "
        "{args:lr weight_decay momentum nesterov ns_steps adjust_lr_fn}), "
        "AdamW({params:rest}, {args:lr=adamw_lr betas weight_decay=adamw_weight_decay})]",
        hyperparameters=_HYPERPARAMETERS,
        pairs={"betas": ("beta1", "beta2")},
    )


_HYPERPARAMETERS = (
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
    h.decoupled_decay(0.1).model_copy(
        update={
            "name": "adamw_weight_decay",
            "description": "Decoupled weight decay of the parameters that Muon does not step.",
            "tuned": False,
            "follows": "weight_decay",
        }
    ),
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
)

_MUON = _card(
    "muon",
    "Muon (AdamW for the rest)",
    "Muon (in bfloat16) steps hidden matrices along their orthogonalised momentum. AdamW steps embeddings, "
    "the output layer, biases, norms, and convolutions, whose weights have more than two dimensions; a "
    "network of convolutions and one linear layer is therefore trained by AdamW alone.",
    import_line="from torch import nn\nfrom torch.optim import AdamW, Muon",
    constructor="Muon",
    preparation=_PREPARATION % "==",
)

_MUON_CONVOLUTIONS = _card(
    "muon-convolutions",
    "Muon for convolutions too (AdamW for the rest)",
    "Muon (in bfloat16) steps hidden matrices and convolutions along their orthogonalised momentum, a "
    "convolution as the matrix of its filters. AdamW steps embeddings, the output layer, biases and norms.",
    import_line="from torch import nn\nfrom torch.optim import AdamW\n\n"
    "from workers.optimizers.muon import FlatMuon",
    constructor="FlatMuon",
    preparation=_PREPARATION % ">=",
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


def hidden_weights(model: nn.Module) -> list[nn.Parameter]:
    """Return the model's hidden matrices and its weights of more than two dimensions, such as convolutions.

    Source: Jordan et al. 2024, whose code steps a convolution as the matrix of its filters.
    """
    matrices = {id(p) for p in hidden_matrices(model)}
    return [
        p
        for name, p in model.named_parameters()
        if id(p) in matrices or (p.ndim > 2 and "weight" in name.rpartition(".")[2])
    ]


class FlatMuon(Muon):
    """torch's Muon for weights of two and more dimensions, which are matrices with a row for each output.

    Args:
        params: parameters or parameter groups.
        settings: the arguments of `torch.optim.Muon`.
    """

    def __init__(self, params: Iterable[Any], **settings: Any) -> None:
        # Muon's own constructor accepts matrices only.
        flat = Muon([nn.Parameter(torch.zeros(1, 1))], **settings)
        Optimizer.__init__(self, params, flat.defaults)

    def _init_group(
        self,
        group: MutableMapping[Any, Any],
        params_with_grad: list[Tensor],
        grads: list[Tensor],
        muon_momentum_bufs: list[Tensor],
    ) -> bool:
        """Append the weights, gradients and buffers of a group as matrices: views, or copies for `step`."""
        own: tuple[list[Tensor], list[Tensor], list[Tensor]] = ([], [], [])
        # torch leaves the types of a group open.
        is_complex = super()._init_group(group, *own)  # pyright: ignore[reportUnknownMemberType]
        for given, found in zip((params_with_grad, grads, muon_momentum_bufs), own, strict=True):
            flat = [each.flatten(1) for each in found]
            given += flat
            self._copied += [
                (each, copy)
                for each, copy in zip(found, flat, strict=True)
                if copy.data_ptr() != each.data_ptr()
            ]
        return is_complex

    @torch.no_grad()
    # Torch overloads step by closure.
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """Step, and return the closure's loss, or None without a closure."""
        # Flattening copies weights in another memory format than torch's default, such as channels_last.
        self._copied: list[tuple[Tensor, Tensor]] = []
        # torch leaves its own type open.
        loss = cast("Any", super()).step(closure)
        for each, copy in self._copied:
            each.copy_(copy.view_as(each))
        self._copied = []
        return loss


class MuonAdamW(Optimizer):
    """An optimizer with Muon for groups marked `set_apart` and torch's AdamW for the others.

    Both parts share this optimizer's groups and state, so schedules that write `group["lr"]`, `zero_grad`,
    `state_dict` and `load_state_dict` work as on any torch optimizer, and each part computes exactly what it
    would compute alone.

    Args:
        groups: parameter groups; those with `set_apart=True` may hold only parameters of two or more
            dimensions, and either kind may be missing.
        lr: learning rate of Muon, whose steps are scaled to the root mean square that AdamW's usually have
            (0.2 lr).
        adamw_lr: learning rate of AdamW; None: `lr`.
        weight_decay: decoupled weight decay of Muon.
        adamw_weight_decay: decoupled weight decay of AdamW; None: `weight_decay`.
        momentum, nesterov, ns_steps: Muon's arguments; see `torch.optim.Muon`.
        betas: AdamW's decay rates.
        adjust_lr_fn: Muon's rule for scaling its steps.

    Raises:
        ValueError: from Muon and AdamW, for illegal values, or a vector set apart.
    """

    def __init__(
        self,
        groups: list[ParameterGroup],
        *,
        lr: float = 1e-3,
        adamw_lr: float | None = None,
        weight_decay: float = 0.1,
        adamw_weight_decay: float | None = None,
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
        adamw = {
            "betas": betas,
            "lr": lr if adamw_lr is None else adamw_lr,
            "weight_decay": weight_decay if adamw_weight_decay is None else adamw_weight_decay,
        }
        super().__init__([{**(muon if g.get("set_apart") else adamw), **g} for g in groups], shared)
        self._link()

    def _link(self) -> None:
        """Create both parts on this optimizer's own group and state objects."""
        self._parts: list[Optimizer] = []
        for kind, is_apart in ((FlatMuon, True), (AdamW, False)):
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


ENTRIES: tuple[OptimizerEntry, ...] = (
    OptimizerEntry(_MUON, _build, set_apart=hidden_matrices),
    OptimizerEntry(_MUON_CONVOLUTIONS, _build, set_apart=hidden_weights),
)
