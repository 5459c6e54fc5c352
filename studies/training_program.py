"""Python code that trains a model as a trial does: its optimizer, its schedule and the loop around them."""

__all__ = ["training_program"]

from collections.abc import Sequence

from studies.catalog import Needs, OptimizerCard, WorkloadCard
from studies.formatting import plural
from studies.recipe import construction, python_value
from studies.searchable import KINDS, WORKLOAD, configurations_of_groups
from studies.space import Parameters
from studies.training_settings import TrainingSettings, settings_of

# Settings that the code of a program without a loop shows.
_WITHOUT_LOOP = frozenset(
    {
        *("decay_1d", "schedule", "warmup_fraction", "step_drops", "step_factor"),
        *("decay_fraction", "cycles", "cycle_growth"),
    }
)


def training_program(
    card: OptimizerCard,
    parameters: Parameters,
    fixed: TrainingSettings,
    *,
    workload: WorkloadCard,
    epochs: int,
    interval_steps: int | None,
) -> str:
    """Return a Python program that trains a model with a trial's configuration.

    It runs as it is once the names are bound that its first comment lists: `model`, `loader` and `loss_of`;
    of a workload with a training step of its own, `training_step` instead of `loss_of`; with hyperparameters
    of parameter groups, `groups`. Of a workload with a loop of its own it has only what precedes the loop,
    and comments say which calls of the loop would do the same.

    Args:
        card: the optimizer.
        parameters: the trial's configuration.
        fixed: the settings of a trial whose configuration sets none.
        workload: what is trained.
        epochs: epochs of the trial, or its intervals.
        interval_steps: steps of the interval that replaces an epoch; None for epochs.

    Raises:
        ValueError: a name is not on the card.
    """
    training = settings_of(fixed, parameters)
    length = _Length(
        training, epochs=epochs, interval_steps=interval_steps, examples=workload.examples.get("train")
    )
    is_constant = card.schedule == "constant" or (training.schedule == "constant" and not training.warmup)
    built = construction(card, parameters, decay_1d=training.decay_1d)
    several = "optimizers = [" in built
    schedule = "" if is_constant else _schedule(training, several=several, total=length.total)
    if workload.kind == "script":
        if schedule:
            schedule = f"\n# If the script calls trial.scheduler:{schedule}"
        given = _settings(training, parameters)
        body = f"# If the script calls trial.optimizer:\n{built}{schedule}"
    else:
        loop = _LoopLines(
            training,
            has_steps=workload.kind == "loop",
            has_schedule=not is_constant,
            has_modes=card.schedule == "constant",
            several=several,
            needs=card.needs,
        )
        lines = loop.lines(length)
        made = f"{built}{schedule}{_average_and_scaler(training)}"
        given, body = _given(training, parameters, workload), f"{made}\n" + "\n".join(lines) + "\n"
    return f"{_imports(card, body)}\n{given}\n{body}"


def _imports(card: OptimizerCard, body: str) -> str:
    """Return the import lines that a program needs, each once."""
    tools = [name for name in ("chain", "islice", "repeat") if f"{name}(" in body or f"{name}." in body]
    plain = [f"import {name}\n" for name in ("math", "torch") if f"{name}." in body]
    lines = [
        *([f"from itertools import {', '.join(tools)}"] if tools else []),
        *card.import_line.splitlines(),
        *(["from torch import nn"] if "nn.utils." in body else []),
        *(["from torch.optim.lr_scheduler import LambdaLR"] if "LambdaLR(" in body else []),
        *(
            ["from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn"]
            if "AveragedModel(" in body
            else []
        ),
    ]
    separated = "".join(plain) + ("\n" if plain else "")
    return separated + "".join(f"{line}\n" for line in dict.fromkeys(lines))


def _given(training: TrainingSettings, parameters: Parameters, workload: WorkloadCard) -> str:
    """Return the comment that lists what the program does not define."""
    size = plural(training.batch_size, "example")
    smoothing = ", with an argument label_smoothing" if training.label_smoothing else ""
    function = (
        f"training_step(model, batch): the mean loss of a batch{smoothing}"
        if workload.kind == "loop"
        else f"loss_of(outputs, targets): the mean loss of a batch{smoothing}"
    )
    own = {
        name.removeprefix(WORKLOAD): value for name, value in parameters.items() if name.startswith(WORKLOAD)
    }
    built = f", built with {', '.join(f'{name}={python_value(v)}' for name, v in own.items())}" if own else ""
    lines = [
        "Define first:",
        f"  model{built}",
        f"  loader: training batches of {size} in random order, without a last one that is smaller",
        f"  {function}",
    ]
    if set(configurations_of_groups(parameters)) - set(KINDS):
        lines.append(f"  groups: lists of the model's parameters by group, {', '.join(workload.groups)}")
    return "".join(f"# {line}\n" for line in lines)


def _settings(training: TrainingSettings, parameters: Parameters) -> str:
    """Return the comment with the settings that a loop of its own must follow."""
    neutral = TrainingSettings(batch_size=training.batch_size)
    shown = {"batch_size": training.batch_size} | {
        name: value
        for name, value in training.model_dump().items()
        if name not in _WITHOUT_LOOP and value != getattr(neutral, name)
    }
    shown |= {name: value for name, value in parameters.items() if name.startswith(WORKLOAD)}
    return (
        f"# The script reads: {', '.join(f'{name}={python_value(value)}' for name, value in shown.items())}\n"
    )


def _schedule(training: TrainingSettings, *, several: bool, total: str) -> str:
    """Return the code of the schedule."""
    one = "LambdaLR(optimizer, factor)"
    made = f"schedulers = [{one} for optimizer in optimizers]" if several else f"scheduler = {one}"
    return f"\nsteps = {total}\n\n\n{_factor(training)}\n\n\n{made}\n"


def _average_and_scaler(training: TrainingSettings) -> str:
    """Return the code of the average of the weights and of the scaler."""
    parts: list[str] = []
    if training.ema_decay:
        average = f"AveragedModel(model, multi_avg_fn=get_ema_multi_avg_fn({training.ema_decay!r}))"
        parts.append(f"average = {average}\n")
    if training.precision != "float32":
        parts.append("device = next(model.parameters()).device.type\n")
    if training.precision == "fp16":
        parts.append("scaler = torch.amp.GradScaler(device)\n")
    return "".join(parts)


class _Length:
    """How many steps a program takes, as code.

    Args:
        training: the trial's settings.
        epochs: epochs of the trial, or its intervals.
        interval_steps: steps of the interval that replaces an epoch; None for epochs.
        examples: training examples of an epoch; None if they are not known: then the code asks the loader.

    Attributes:
        total: the steps of the trial.
        outer: the head of the loop over epochs or intervals.
        source: the batches of each.
        is_stream: whether passes over the data follow one another without an epoch.
    """

    def __init__(
        self, training: TrainingSettings, *, epochs: int, interval_steps: int | None, examples: int | None
    ) -> None:
        each = training.accumulation_steps
        batches = None if examples is None else examples // training.batch_size
        self.is_stream = interval_steps is not None
        self.outer = f"for {'interval' if self.is_stream else 'epoch'} in range({epochs}):"
        if interval_steps is not None:
            self.total, self.source = (
                str(epochs * interval_steps),
                f"islice(batches, {interval_steps * each})",
            )
        elif batches is None:
            steps = "len(loader)" if each == 1 else f"(len(loader) // {each})"
            self.total = f"{epochs} * {steps}"
            self.source = "loader" if each == 1 else f"islice(loader, len(loader) // {each} * {each})"
        else:
            steps = max(1, batches // each)
            self.total = str(epochs * steps)
            self.source = "loader" if steps * each == batches else f"islice(loader, {steps * each})"


class _LoopLines:
    """The lines of a training loop.

    Args:
        training: the trial's settings.
        has_steps: whether the workload has a training step of its own.
        has_schedule: whether the program has schedulers.
        has_modes: whether the optimizer may train and evaluate at different weights.
        several: whether the program has several optimizers.
        needs: what the optimizer's steps need.
    """

    def __init__(
        self,
        training: TrainingSettings,
        *,
        has_steps: bool,
        has_schedule: bool,
        has_modes: bool,
        several: bool,
        needs: Needs,
    ) -> None:
        self._training, self._has_steps, self._needs = training, has_steps, needs
        self._has_schedule, self._has_modes, self._several = has_schedule, has_modes, several

    def lines(self, length: _Length) -> list[str]:
        """Return the loop over epochs, or over intervals of a stream."""
        item, source = self._item, length.source
        if self._training.accumulation_steps > 1:
            item = f"n, {item if self._has_steps else f'({item})'}"
            source = f"enumerate({source}, 1)"
        both = {"instead": ["average.module"], "beside": ["model", "average.module"]}
        evaluated = both[self._training.ema_evaluation] if self._training.ema_decay else ["model"]
        return [
            *(["held = []"] if self._holds else []),
            *(["batches = chain.from_iterable(repeat(loader))"] if length.is_stream else []),
            length.outer,
            *_indented(["model.train()", *self._mode("train"), f"for {item} in {source}:"]),
            *_indented(_indented([*self._backward(), *self._step()])),
            *_indented([f"{each}.eval()" for each in evaluated]),
            *_indented([*self._mode("eval"), f"# Evaluate {' and '.join(evaluated)} here."]),
        ]

    def _mode(self, name: str) -> list[str]:
        return [f'if hasattr(optimizer, "{name}"):', f"    optimizer.{name}()"] if self._has_modes else []

    @property
    def _item(self) -> str:
        return "batch" if self._has_steps else "inputs, targets"

    @property
    def _holds(self) -> bool:
        """Whether a step keeps its batches for a second pass."""
        return self._needs == "closure" and self._training.accumulation_steps > 1

    def _backward(self) -> list[str]:
        count = self._training.accumulation_steps
        held = [f"held = [*held[-{count - 1}:], ({self._item})]"] if self._holds else []
        skipped = [f"if n % {count}:", "    continue"] if count > 1 else []
        return [*held, *self._gradients(), *skipped]

    def _gradients(self) -> list[str]:
        training = self._training
        smoothing = f", label_smoothing={training.label_smoothing!r}" if training.label_smoothing else ""
        arguments = f"model, batch{smoothing}" if self._has_steps else f"model(inputs), targets{smoothing}"
        loss = [f"loss = {'training_step' if self._has_steps else 'loss_of'}({arguments})"]
        if training.precision != "float32":
            dtype = "bfloat16" if training.precision == "bf16" else "float16"
            loss = [f"with torch.autocast(device, dtype=torch.{dtype}):", *_indented(loss)]
        count = training.accumulation_steps
        mean = f"(loss / {count})" if count > 1 else "loss"
        if training.precision == "fp16":
            mean = f"scaler.scale({mean.strip('()')})"
        wanted = 'create_graph=getattr(optimizer, "wants_curvature", True)'
        graph = wanted if self._needs == "curvature" else ""
        return [*loss, f"{mean}.backward({graph})"]

    def _step(self) -> list[str]:
        training, is_scaled = self._training, self._training.precision == "fp16"
        value, norm = training.clip_value, training.clip_norm
        given = "closure" if self._needs == "closure" else ""
        step = "scaler.step(optimizer)" if is_scaled else f"optimizer.step({given})"
        clips = [
            *([f"nn.utils.clip_grad_value_(model.parameters(), {value!r})"] if value else []),
            *([f"nn.utils.clip_grad_norm_(model.parameters(), {norm!r})"] if norm else []),
        ]
        return [
            *(self._for_each(["scaler.unscale_(optimizer)"]) if is_scaled and clips else []),
            *clips,
            *(self._closure(clips) if self._needs == "closure" else ()),
            *self._for_each([step, "optimizer.zero_grad()"]),
            *(["scaler.update()"] if is_scaled else []),
            *(self._for_each(["scheduler.step()"], "scheduler") if self._has_schedule else []),
            *(["average.update_parameters(model)"] if training.ema_decay else []),
        ]

    def _closure(self, clips: Sequence[str]) -> list[str]:
        """Return the code of a second pass over the batches of a step."""
        again = self._gradients()
        if self._holds:
            again = [f"for {self._item} in held:", *_indented(again)]
        return [
            "",
            "def closure():",
            *_indented([*again, *clips, "return loss"]),
            "",
        ]

    def _for_each(self, lines: Sequence[str], name: str = "optimizer") -> list[str]:
        return [f"for {name} in {name}s:", *_indented(lines)] if self._several else [*lines]


def _indented(lines: Sequence[str]) -> list[str]:
    return [f"    {line}" if line else "" for line in lines]


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
