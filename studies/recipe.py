"""Python code that trains a model as a trial does: its optimizer, its parameter groups and its schedule."""

__all__ = ["Argument", "arguments", "call", "recipe", "whole_recipe"]

import json
import re
from collections.abc import Mapping

from studies.catalog import OptimizerCard
from studies.searchable import GROUPS, is_optimizers_own
from studies.space import Parameters, Scalar, is_active
from studies.training_settings import PREFIX, TrainingSettings, settings_of

Argument = Scalar | tuple[Scalar, ...]
"""The value of one keyword argument of an optimizer's constructor."""

_GROUP_OF = "group_of = {id(p): name for name, group in groups.items() for p in group}\n"
# Settings that the code itself shows.
_IN_CODE = frozenset(
    {
        *("batch_size", "decay_1d", "schedule", "warmup_fraction", "step_drops", "step_factor"),
        *("decay_fraction", "cycles", "cycle_growth"),
    }
)
_PLACEHOLDER = re.compile(r"\{(params|groups|args):([^}]*)\}")


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
    groups = _settings_of_groups(card, parameters)
    parameters, decay_1d = _own(parameters), bool(parameters.get(f"{PREFIX}decay_1d", decay_1d))
    every = arguments(card, parameters)
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
        return ", ".join(f"{name}={_python(every[name])}" for name in content.split() if name in shown)

    template = card.call or f"{card.constructor}({{params:model.parameters()}}, {{args:{' '.join(every)}}})"
    return _PLACEHOLDER.sub(filled, template).replace(", )", ")")


def recipe(card: OptimizerCard, parameters: Parameters, *, decay_1d: bool = True) -> str:
    """Return Python code that builds the trial's optimizer for a `model`: imports, preparation and call.

    The code binds `optimizer`, or `optimizers` if the card's call is a list: then call `step` and `zero_grad`
    on each of them. With hyperparameters of parameter groups it reads `groups`, what the workload's
    `parameter_groups(model)` returns. A comment names the values that the constructor does not accept; the
    optimizer's entry uses them in another way.

    Args:
        card: the optimizer.
        parameters: one configuration; missing hyperparameters take the card's default.
        decay_1d: the study's setting, unless the configuration has one. False gives parameters of fewer than
            two dimensions weight decay 0.

    Raises:
        ValueError: a name is not on the card.
    """
    one_call = call(card, parameters, decay_1d=decay_1d)
    has_groups = any(name.startswith(GROUPS) for name in parameters)
    parameters = _own(parameters)
    name = "optimizers" if one_call.startswith("[") else "optimizer"
    preparation = f"{card.preparation}\n" if card.preparation else ""
    if has_groups:
        preparation += _GROUP_OF
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


def _settings_of_groups(card: OptimizerCard, parameters: Parameters) -> dict[str, dict[str, Scalar]]:
    """Return the hyperparameters that a configuration sets for parameter groups, by group."""
    found: dict[str, dict[str, Scalar]] = {}
    for name, value in parameters.items():
        if name.startswith(GROUPS):
            group, _, setting = name.removeprefix(GROUPS).partition(".")
            hyperparameter = card.hyperparameter(setting)
            typed = value if hyperparameter is None else hyperparameter.typed(value)
            found.setdefault(group, {})[setting] = typed
    return found


def _parameter_groups(expression: str, groups: Mapping[str, Mapping[str, Scalar]], *, spare_1d: bool) -> str:
    """Return the parameters of an expression in groups, each with its settings, or the expression itself."""
    if not groups and not spare_1d:
        return expression
    others = f"group_of.get(id(p)) not in {tuple(groups)!r}" if groups else ""
    parts: list[tuple[str, Mapping[str, Scalar]]] = [(others, {})]
    parts += [(f"group_of.get(id(p)) == {json.dumps(name)}", settings) for name, settings in groups.items()]
    made: list[str] = []
    for condition, settings in parts:
        for limit, own in (("p.ndim >= 2", settings), ("p.ndim < 2", {**settings, "weight_decay": 0.0})):
            tests = " and ".join(test for test in (condition, limit if spare_1d else "") if test)
            shown = "".join(f', "{name}": {_python(value)}' for name, value in own.items())
            if spare_1d or limit == "p.ndim >= 2":
                made.append(f'{{"params": [p for p in {expression} if {tests}]{shown}}}')
    return f"[{', '.join(made)}]"


def whole_recipe(
    card: OptimizerCard,
    parameters: Parameters,
    fixed: TrainingSettings,
    *,
    epochs: int,
    interval_steps: int | None,
    examples: int | None,
) -> str:
    """Return Python code for all that a trial's settings change in a training loop.

    It builds the optimizer as `recipe` does, and then a `scheduler`, or `schedulers` of several optimizers,
    whose `step()` follows each step of the optimizer. A comment names the batch size and every other setting
    that is not at its default.

    Args:
        card: the optimizer.
        parameters: the trial's configuration.
        fixed: the settings of a trial whose configuration sets none.
        epochs: epochs of the trial, or its intervals.
        interval_steps: steps of the interval that replaces an epoch; None for epochs.
        examples: training examples of an epoch; None if they are not known.

    Raises:
        ValueError: a name is not on the card.
    """
    training = settings_of(fixed, parameters)
    steps = _steps(training, epochs=epochs, interval_steps=interval_steps, examples=examples)
    built = recipe(card, parameters, decay_1d=training.decay_1d)
    neutral = TrainingSettings(batch_size=training.batch_size)
    shown = {"batch_size": training.batch_size} | {
        name: value
        for name, value in training.model_dump().items()
        if name not in _IN_CODE and value != getattr(neutral, name)
    }
    others = ", ".join(f"{name}={_python(value)}" for name, value in shown.items())
    comment = f"# settings of the training: {others}\n"
    if card.schedule == "constant" or (training.schedule == "constant" and not training.warmup):
        return f"{built}{comment}"
    several = "optimizers = [" in built
    made = (
        "schedulers = [LambdaLR(optimizer, factor) for optimizer in optimizers]"
        if several
        else "scheduler = LambdaLR(optimizer, factor)"
    )
    imports = "import math\n\n" if "math." in _factor(training) else ""
    return (
        f"{imports}from torch.optim.lr_scheduler import LambdaLR\n{built}{comment}\nsteps = {steps}\n\n\n"
        f"{_factor(training)}\n\n\n{made}\n"
    )


def _steps(
    training: TrainingSettings, *, epochs: int, interval_steps: int | None, examples: int | None
) -> str:
    """Return Python code of a trial's number of steps; without a number of examples it names a `loader`."""
    each = training.accumulation_steps
    if interval_steps is None and examples is None:
        return f"{epochs} * len(loader)" if each == 1 else f"{epochs} * (len(loader) // {each})"
    return str(epochs * (interval_steps or max(1, (examples or 1) // training.batch_size // each)))


def _factor(training: TrainingSettings) -> str:
    """Return the function of a schedule that gives the learning rate's factor after `step` of `steps`.

    It is `workers.schedules.factor` for one setting.
    """
    lines = ["def factor(step):", "    step = min(step, steps - 1)"]
    if training.schedule == "one-cycle":
        return "\n".join(
            [
                *lines,
                f"    peak = {training.warmup!r} * steps - 1",
                "    if peak > 0 and step <= peak:",
                "        return 1 + (1 / 25 - 1) * (1 + math.cos(math.pi * step / peak)) / 2",
                "    start = max(peak, 0.0)",
                "    share = (step - start) / (steps - 1 - start) if steps - 1 > start else 0.0",
                "    return min(1.0, 4e-6 + (1 - 4e-6) * (1 + math.cos(math.pi * share)) / 2)",
            ]
        )
    if training.warmup:
        lines += [
            f"    warmup = round({training.warmup!r} * steps)",
            "    if step < warmup:",
            "        return (step + 1) / warmup",
            "    taken, left = step - warmup, steps - warmup",
        ]
    else:
        lines += ["    taken, left = step, steps"]
    match training.schedule:
        case "constant":
            lines += ["    return 1.0"]
        case "cosine" | "warmup-cosine":
            lines += ["    return (1 + math.cos(math.pi * taken / left)) / 2"]
        case "linear":
            lines += ["    return 1 - taken / left"]
        case "step":
            lines += [f"    return {training.step_factor!r} ** (taken * {training.step_drops + 1} // left)"]
        case "wsd":
            lines += [
                f"    decaying = min(max(1, round({training.decay_fraction!r} * steps)), left)",
                "    return min(1.0, (left - taken) / decaying)",
            ]
        case "warm-restarts":
            growth, cycles = training.cycle_growth, training.cycles
            lines += [
                f"    lengths = [sum({growth!r}**n for n in range(k + 1)) for k in range({cycles})]",
                "    ends = [0, *(round(left * length / lengths[-1]) for length in lengths)]",
                "    start, end = next((a, b) for a, b in zip(ends, ends[1:]) if taken < b)",
                "    return (1 + math.cos(math.pi * (taken - start) / (end - start))) / 2",
            ]
    return "\n".join(lines)
