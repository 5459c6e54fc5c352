"""Python code that builds the optimizer of a trial with exactly the trial's configuration."""

__all__ = ["Argument", "arguments", "call", "recipe"]

import json
import re

from studies.catalog import OptimizerCard
from studies.searchable import is_optimizers_own
from studies.space import Parameters, Scalar, is_active
from studies.training_settings import PREFIX

Argument = Scalar | tuple[Scalar, ...]
"""The value of one keyword argument of an optimizer's constructor."""

_PLACEHOLDER = re.compile(r"\{(params|args):([^}]*)\}")


def arguments(card: OptimizerCard, parameters: Parameters) -> dict[str, Argument]:
    """Return every keyword argument of the optimizer's constructor, in the card's order.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the card's default. Hyperparameters of a
            pair become one tuple (`betas=(beta1, beta2)`), and the card's fixed arguments (`nesterov=True`)
            follow.

    Raises:
        ValueError: a name is not on the card.
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

    The call leaves out hyperparameters that have no effect (`wd_ratio` at weight decay 0), untuned ones at
    their default, and those that the constructor does not accept. Numbers are written in full, so that the
    call reproduces the trial.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the card's default.
        decay_1d: the study's setting, unless the configuration has one. False puts parameters of fewer than
            two dimensions (biases, norms) into their own parameter group with weight decay 0.

    Raises:
        ValueError: a name is not on the card.
    """
    parameters, decay_1d = _own(parameters), bool(parameters.get(f"{PREFIX}decay_1d", decay_1d))
    every = arguments(card, parameters)
    shown = [name for name in _shown(card, parameters) if _is_accepted(card, name)]
    has_decay = card.hyperparameter("weight_decay") is not None

    def filled(placeholder: re.Match[str]) -> str:
        kind, content = placeholder.groups()
        if kind == "params":
            return content if decay_1d or not has_decay else _groups(content)
        return ", ".join(f"{name}={_python(every[name])}" for name in content.split() if name in shown)

    template = card.call or f"{card.constructor}({{params:model.parameters()}}, {{args:{' '.join(every)}}})"
    return _PLACEHOLDER.sub(filled, template).replace(", )", ")")


def recipe(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool = True) -> str:
    """Return Python code that builds the trial's optimizer for a `model`: imports, preparation and call.

    The code binds `optimizer`, or `optimizers` if the card's call is a list: then call `step` and `zero_grad`
    on each of them. A comment names the values that the constructor does not accept; the optimizer's entry
    uses them in another way.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the card's default.
        decay_1d: the study's setting, unless the configuration has one. False gives parameters of fewer than
            two dimensions weight decay 0.

    Raises:
        ValueError: a name is not on the card.
    """
    one_call = call(card, parameters, decay_1d=decay_1d)
    parameters = _own(parameters)
    name = "optimizers" if one_call.startswith("[") else "optimizer"
    preparation = f"{card.preparation}\n" if card.preparation else ""
    every = arguments(card, parameters)
    others = [
        f"{argument}={_python(every[argument])}"
        for argument in _shown(card, parameters)
        if not _is_accepted(card, argument)
    ]
    comment = f"# not arguments of {card.constructor}: {', '.join(others)}\n" if others else ""
    return f"{card.import_line}\n\n{preparation}{comment}{name} = {one_call}\n"


def _own(parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if is_optimizers_own(name)}


def _python(value: Argument) -> str:
    # JSON has double quotes, as formatters do; repr has the shortest digits that read back as the same float.
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _pair_of(card: OptimizerCard) -> dict[str, str]:
    return {part: pair for pair, parts in card.pairs.items() for part in parts}


def _informative(card: OptimizerCard, parameters: Parameters) -> set[str]:
    """Return the arguments to show: those that have an effect and are tuned or not at their default."""
    values = card.defaults | parameters
    pair_of = _pair_of(card)
    informative = set(card.arguments)
    for h in card.hyperparameters:
        if is_active(h.name, card.conditions, values) and (h.tuned or h.typed(values[h.name]) != h.default):
            informative.add(pair_of.get(h.name, h.name))
    return informative


def _shown(card: OptimizerCard, parameters: Parameters) -> list[str]:
    """Return the names of the arguments to show, in the card's order."""
    informative = _informative(card, parameters)
    return [name for name in arguments(card, parameters) if name in informative]


def _is_accepted(card: OptimizerCard, argument: str) -> bool:
    return card.accepts is None or argument in card.accepts


def _groups(expression: str) -> str:
    """Return two parameter groups: with weight decay and without."""
    decayed = f'{{"params": [p for p in {expression} if p.ndim >= 2]}}'
    undecayed = f'{{"params": [p for p in {expression} if p.ndim < 2], "weight_decay": 0.0}}'
    return f"[{decayed}, {undecayed}]"
