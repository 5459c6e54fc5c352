"""Python code that builds a trial's optimizer: its constructor's call and its parameter groups."""

__all__ = ["Argument", "arguments", "call", "construction", "group_arguments", "python_value", "recipe"]

import json
import re
from collections.abc import Mapping

from studies.catalog import OptimizerCard
from studies.searchable import GROUPS, configurations_of_groups, is_optimizers_own
from studies.space import Parameters, Scalar, is_active
from studies.training_settings import PREFIX

Argument = Scalar | tuple[Scalar, ...]
"""The value of one keyword argument of an optimizer's constructor."""

_GROUP_OF = "group_of = {id(p): name for name, group in groups.items() for p in group}\n"
_NORM, _EMBEDDING = '"Norm" in type(m).__name__', '"Embedding" in type(m).__name__'
_KINDS = {
    "biases": (
        f"[p for m in model.modules() if not ({_NORM} or {_EMBEDDING})"
        ' for n, p in m.named_parameters(recurse=False) if "bias" in n]'
    ),
    "norms": f"[p for m in model.modules() if {_NORM} for p in m.parameters(recurse=False)]",
    "embeddings": f"[p for m in model.modules() if {_EMBEDDING} for p in m.parameters(recurse=False)]",
}
_PLACEHOLDER = re.compile(r"\{(params|groups|args):([^}]*)\}")


def arguments(card: OptimizerCard, parameters: Parameters) -> dict[str, Argument]:
    """Return every keyword argument of the optimizer's constructor, in the card's order.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the value of the one that they follow, or
            the card's default. Hyperparameters of a pair become one tuple (`betas=(beta1, beta2)`), and the
            card's fixed arguments (`nesterov=True`) follow.

    Raises:
        ValueError: a name is not on the card.
    """
    unknown = [name for name in parameters if card.hyperparameter(name) is None]
    if unknown:
        raise ValueError(f"{card.name} has no hyperparameter {unknown[0]!r}; it has {', '.join(card.names)}")
    given = card.completed(card.defaults | parameters)
    values = {h.name: h.typed(given[h.name]) for h in card.hyperparameters}
    pair_of = _pair_of(card)
    found: dict[str, Argument] = {}
    for name, value in values.items():
        pair = pair_of.get(name)
        found[name if pair is None else pair] = (
            value if pair is None else tuple(values[part] for part in card.pairs[pair])
        )
    return {**found, **card.arguments}


def group_arguments(card: OptimizerCard, parameters: Parameters) -> dict[str, dict[str, Argument]]:
    """Return the arguments that differ from the optimizer's in each parameter group, by group.

    Args:
        card: the optimizer.
        parameters: one configuration, with `groups.GROUP.NAME`. A pair of which a group has one part gets the
            other part from the optimizer.

    Raises:
        ValueError: a name is not on the card.
    """
    pair_of = _pair_of(card)
    found: dict[str, dict[str, Argument]] = {}
    for group, configuration in configurations_of_groups(parameters).items():
        prefix = f"{GROUPS}{group}."
        own = [name.removeprefix(prefix) for name in parameters if name.startswith(prefix)]
        every = arguments(card, configuration)
        found[group] = {name: every[name] for name in dict.fromkeys(pair_of.get(each, each) for each in own)}
    return found


def call(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool = True) -> str:
    """Return the constructor call on one line.

    For example `AdamP(model.parameters(), lr=0.00312, weight_decay=0.01)`.

    The call leaves out hyperparameters that have no effect (`wd_ratio` at weight decay 0), untuned ones at
    their default, and those that the constructor does not accept. Numbers are written in full, so that the
    call reproduces the trial.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the value of the one that they follow, or
            the card's default.
        decay_1d: the study's setting, unless the configuration has one. False puts parameters of fewer than
            two dimensions (biases, norms) into their own parameter group with weight decay 0.

    Raises:
        ValueError: a name is not on the card.
    """
    groups = group_arguments(card, parameters)
    decay_1d = bool(parameters.get(f"{PREFIX}decay_1d", decay_1d))
    every = arguments(card, _own(parameters))
    shown = [name for name in _shown(card, parameters) if _is_accepted(card, name)]
    has_decay = card.hyperparameter("weight_decay") is not None

    def filled(placeholder: re.Match[str]) -> str:
        kind, content = placeholder.groups()
        if kind == "params":
            return _parameter_groups(content, groups, spare_1d=has_decay and not decay_1d)
        if kind == "groups":
            return (
                _parameter_groups(content, groups, spare_1d=False) if groups else f'[{{"params": {content}}}]'
            )
        named = [name.partition("=")[::2] for name in content.split()]
        return ", ".join(
            f"{keyword}={python_value(every[name or keyword])}"
            for keyword, name in named
            if (name or keyword) in shown
        )

    template = card.call or f"{card.constructor}({{params:model.parameters()}}, {{args:{' '.join(every)}}})"
    return _PLACEHOLDER.sub(filled, template).replace(", )", ")")


def recipe(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool = True) -> str:
    """Return Python code that builds the trial's optimizer for a `model`: imports, preparation and call.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the value of the one that they follow, or
            the card's default.
        decay_1d: the study's setting, unless the configuration has one. False gives parameters of fewer than
            two dimensions weight decay 0.

    Raises:
        ValueError: a name is not on the card.
    """
    return f"{card.import_line}\n\n{construction(card, parameters, decay_1d=decay_1d)}"


def construction(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool) -> str:
    """Return the code of `recipe` without its imports.

    The code binds `optimizer`, or `optimizers` if the card's call is a list: then call `step` and `zero_grad`
    on each of them. With hyperparameters of parameter groups it reads `groups`, what the workload's
    `parameter_groups(model)` returns. A comment names the values that the constructor does not accept; the
    optimizer's entry uses them in another way.

    Args:
        card: the optimizer.
        parameters: one configuration.
        decay_1d: the study's setting, unless the configuration has one.

    Raises:
        ValueError: a name is not on the card.
    """
    one_call = call(card, parameters, decay_1d=decay_1d)
    has_groups = any(name.startswith(GROUPS) for name in parameters)
    name = "optimizers" if one_call.startswith("[") else "optimizer"
    preparation = f"{card.preparation}\n" if card.preparation else ""
    if has_groups:
        preparation += f"{_kinds(parameters)}{_GROUP_OF}"
    every = arguments(card, _own(parameters))
    others = [
        f"{argument}={python_value(every[argument])}"
        for argument in _shown(card, parameters)
        if not _is_accepted(card, argument)
    ]
    comment = f"# not arguments of {card.constructor}: {', '.join(others)}\n" if others else ""
    return f"{preparation}{comment}{name} = {one_call}\n"


def _kinds(parameters: Parameters) -> str:
    """Return the code of the groups that a configuration names by the kind of their parameters."""
    named = configurations_of_groups(parameters)
    kinds = "".join(f'    "{kind}": {code},\n' for kind, code in _KINDS.items() if kind in named)
    others = "    **groups,\n" if set(named) - set(_KINDS) else ""
    return f"groups = {{\n{kinds}{others}}}\n" if kinds else ""


def python_value(value: Argument) -> str:
    """Return a value as Python code that reads back as the same value."""
    # JSON has double quotes, as formatters do; repr has the shortest digits that read back as the same float.
    return json.dumps(value) if isinstance(value, str) else repr(value)


def _own(parameters: Parameters) -> Parameters:
    return {name: value for name, value in parameters.items() if is_optimizers_own(name)}


def _pair_of(card: OptimizerCard) -> dict[str, str]:
    return {part: pair for pair, parts in card.pairs.items() for part in parts}


def _informative(card: OptimizerCard, parameters: Parameters) -> set[str]:
    """Return the arguments to show: those that have an effect and are tuned or not at their default.

    One that follows another is shown with it, because the constructor's default may be another value.
    """
    values = card.completed(card.defaults | _own(parameters))
    groups = [card.completed(card.defaults | each) for each in configurations_of_groups(parameters).values()]
    pair_of = _pair_of(card)
    informative = set(card.arguments)
    for h in card.hyperparameters:
        followed = None if h.follows is None else card.hyperparameter(h.follows)
        is_tuned = h.tuned or (followed is not None and followed.tuned)
        has_effect = any(is_active(h.name, card.conditions, each) for each in (values, *groups))
        if has_effect and (is_tuned or h.typed(values[h.name]) != h.default):
            informative.add(pair_of.get(h.name, h.name))
    return informative


def _shown(card: OptimizerCard, parameters: Parameters) -> list[str]:
    """Return the names of the arguments to show, in the card's order."""
    informative = _informative(card, parameters)
    return [name for name in arguments(card, _own(parameters)) if name in informative]


def _is_accepted(card: OptimizerCard, argument: str) -> bool:
    return card.accepts is None or argument in card.accepts


def _parameter_groups(
    expression: str, groups: Mapping[str, Mapping[str, Argument]], *, spare_1d: bool
) -> str:
    """Return the parameters of an expression in groups, each with its settings, or the expression itself."""
    if not groups and not spare_1d:
        return expression
    others = f"group_of.get(id(p)) not in {tuple(groups)!r}" if groups else ""
    parts: list[tuple[str, Mapping[str, Argument]]] = [(others, {})]
    parts += [(f"group_of.get(id(p)) == {json.dumps(name)}", settings) for name, settings in groups.items()]
    made: list[str] = []
    for condition, settings in parts:
        for limit, own in (("p.ndim >= 2", settings), ("p.ndim < 2", {**settings, "weight_decay": 0.0})):
            tests = " and ".join(test for test in (condition, limit if spare_1d else "") if test)
            shown = "".join(f', "{name}": {python_value(value)}' for name, value in own.items())
            if spare_1d or limit == "p.ndim >= 2":
                made.append(f'{{"params": [p for p in {expression} if {tests}]{shown}}}')
    return f"[{', '.join(made)}]"
