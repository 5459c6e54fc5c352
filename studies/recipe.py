"""A trial's optimizer as Python to paste.

The same call, to the last digit, that the trial was trained with.
"""

__all__ = ["Argument", "arguments", "call", "recipe"]

import json
import re

from studies.catalog import OptimizerCard
from studies.space import Parameters, Scalar, is_active

Argument = Scalar | tuple[Scalar, ...]
"""What one keyword argument of an optimizer's constructor may be."""

_PLACEHOLDER = re.compile(r"\{(params|args):([^}]*)\}")


def arguments(card: OptimizerCard, parameters: Parameters) -> dict[str, Argument]:
    """Return every keyword argument of the optimizer's constructor, in the card's order.

    Args:
        card: the optimizer.
        parameters: one configuration; a hyperparameter that is absent takes the card's default.
            Hyperparameters of a pair become one tuple (`betas=(beta1, beta2)`), and the arguments that make
            the card's variant (`nesterov=True`) follow.

    Raises:
        ValueError: for a name that the card does not have.
    """
    unknown = [name for name in parameters if card.hyperparameter(name) is None]
    if unknown:
        raise ValueError(
            f"{card.name} has no hyperparameter {unknown[0]!r}; it has {', '.join(card.defaults)}"
        )
    values = {h.name: h.typed(parameters.get(h.name, h.default)) for h in card.hyperparameters}
    pair_of = _pair_of(card)
    found: dict[str, Argument] = {}
    for name, value in values.items():
        pair = pair_of.get(name)
        found[name if pair is None else pair] = (
            value if pair is None else tuple(values[part] for part in card.pairs[pair])
        )
    return {**found, **card.arguments}


def call(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool = True) -> str:
    """Return the constructor call on one line.

    For example `AdamP(model.parameters(), lr=0.00312, weight_decay=0.01)`.

    Left out is what cannot change the trial: hyperparameters without effect there (`wd_ratio` at weight decay
    0), and those that are not tuned and stand at their default. Numbers are written in full, so that the
    paste repeats the trial.

    Args:
        card: the optimizer.
        parameters: one configuration; a hyperparameter that is absent takes the card's default.
        decay_1d: False gives parameters of fewer than two dimensions (biases, norms) weight decay 0, by a
            parameter group of their own.

    Raises:
        ValueError: for a name that the card does not have.
    """
    every = arguments(card, parameters)
    shown = [name for name in every if name in _telling(card, parameters)]
    has_decay = card.hyperparameter("weight_decay") is not None

    def filled(placeholder: re.Match[str]) -> str:
        kind, content = placeholder.groups()
        if kind == "params":
            return content if decay_1d or not has_decay else _groups(content)
        return ", ".join(f"{name}={_python(every[name])}" for name in content.split() if name in shown)

    template = card.call or f"{card.constructor}({{params:model.parameters()}}, {{args:{' '.join(every)}}})"
    return _PLACEHOLDER.sub(filled, template).replace(", )", ")")


def recipe(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool = True) -> str:
    """Return Python that builds the trial's optimizer for a `model`.

    The imports, what must be prepared, and the call.

    It binds `optimizer`, or `optimizers` where the card's call is a list: then `step` and `zero_grad` go to
    each of them.

    Args:
        card: the optimizer.
        parameters: one configuration; a hyperparameter that is absent takes the card's default.
        decay_1d: False gives parameters of fewer than two dimensions weight decay 0.

    Raises:
        ValueError: for a name that the card does not have.
    """
    one_call = call(card, parameters, decay_1d=decay_1d)
    name = "optimizers" if one_call.startswith("[") else "optimizer"
    preparation = f"{card.preparation}\n" if card.preparation else ""
    return f"{card.import_line}\n\n{preparation}{name} = {one_call}\n"


def _python(value: Argument) -> str:
    # Double quotes, as most formatters would have them; the shortest digits that read back as the same float.
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _pair_of(card: OptimizerCard) -> dict[str, str]:
    return {part: pair for pair, parts in card.pairs.items() for part in parts}


def _telling(card: OptimizerCard, parameters: Parameters) -> set[str]:
    """Return the arguments that say something about this configuration."""
    values = card.defaults | parameters
    pair_of = _pair_of(card)
    telling = set(card.arguments)
    for h in card.hyperparameters:
        if is_active(h.name, card.conditions, values) and (h.tuned or h.typed(values[h.name]) != h.default):
            telling.add(pair_of.get(h.name, h.name))
    return telling


def _groups(expression: str) -> str:
    """Return two parameter groups: what weight decay applies to, and what it spares."""
    decayed = f'{{"params": [p for p in {expression} if p.ndim >= 2]}}'
    spared = f'{{"params": [p for p in {expression} if p.ndim < 2], "weight_decay": 0.0}}'
    return f"[{decayed}, {spared}]"
