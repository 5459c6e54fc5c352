"""How a report describes the training of a trial."""

__all__ = ["describe_training"]

from collections.abc import Sequence

from service.report.references import Citations
from studies.formatting import count, listed, percent, plural, scalar
from studies.searched_text import describe_overrides, describe_shared_space
from studies.spec import Training
from studies.views import ArmView, StudyView


def describe_training(study: StudyView, arms: Sequence[ArmView], cite: Citations) -> str:
    """Return the paragraph about the training of each trial."""
    training = study.spec.training
    sentences = [
        (
            f"Every trial was trained for {_length(study)} with batch size {count(study.batch_size)} and "
            f"{_schedule(training, cite)}."
        )
    ]
    own = [arm.label for arm in arms if arm.optimizer.schedule == "constant"]
    if own and (training.schedule != "constant" or training.warmup):
        have = "has its own schedule and was" if len(own) == 1 else "have their own schedules and were"
        sentences.append(f"{listed(own, most=len(own))} {have} trained without this one.")
    sentences += _updates(training, cite)
    sentences += _searched(study, arms)
    if not training.decay_1d:
        sentences.append(
            "Weight decay was not applied to parameters with fewer than two dimensions, such as biases and "
            "normalisation scales."
        )
    differ = "arms differ only in the optimizer"
    if overriding := [label for label, _ in describe_overrides(arms)]:
        have = "has" if len(overriding) == 1 else "have"
        differ += f" and in what {listed(overriding, most=len(overriding))} {have} for itself"
        differ = differ if len(overriding) == 1 else differ.removesuffix("itself") + "themselves"
    same = (
        "The trials of a pair have the same seed, as do all other trials of a search"
        if study.spec.search.paired
        else "Both were the same in every arm"
    )
    sentences.append(
        f"A trial's seed determines its initialisation and the order of its batches. {same}, so that "
        f"{differ}; all seeds derive from the study's seed {study.spec.seed}."
    )
    return " ".join(sentences)


def _searched(study: StudyView, arms: Sequence[ArmView]) -> list[str]:
    """Return sentences about what is searched beside the optimizers' hyperparameters."""
    sentences: list[str] = []
    if shared := describe_shared_space(study):
        sentences.append(
            f"Every arm searched for itself, from the same ranges: {shared}; of a searched setting, the "
            "value given here is that of each arm's first trial."
        )
    sentences += [f"Only {label} had {text}." for label, text in describe_overrides(arms)]
    if "training.batch_size" in study.spec.space:
        counted = (
            "steps, so that a larger batch saw more examples"
            if study.interval_steps
            else "epochs, so that a larger batch took fewer steps"
        )
        sentences.append(f"Budgets count {counted}.")
    return sentences


def _length(study: StudyView) -> str:
    if study.interval_steps is None:
        return plural(study.epochs, "epoch")
    return (
        f"{plural(study.epochs * study.interval_steps, 'step')} and evaluated after every "
        f"{plural(study.interval_steps, 'step')}, an interval that is called an epoch here,"
    )


def _updates(training: Training, cite: Citations) -> list[str]:
    """Return sentences about what precedes and follows the optimizer's step."""
    sentences: list[str] = []
    if training.accumulation_steps > 1:
        sentences.append(
            f"Each step averaged the gradients of {count(training.accumulation_steps)} batches, "
            f"{count(training.accumulation_steps)} times the batch size in all."
        )
    limits = [
        text
        for text, limit in (
            (f"each element to an absolute value of {scalar(training.clip_value)}", training.clip_value),
            (f"all of them together to a norm of {scalar(training.clip_norm)}", training.clip_norm),
        )
        if limit
    ]
    if limits:
        sentences.append(f"Gradients were clipped: {', then '.join(limits)} {cite('clipping')}.")
    if training.ema_decay:
        whose = (
            "Validation and test values"
            if training.ema_evaluation == "instead"
            else "Metrics with '(EMA)' after their names"
        )
        sentences.append(
            f"{whose} are those of an exponential moving average of the weights with a decay of "
            f"{scalar(training.ema_decay)} per step {cite('averages')}."
        )
    if training.label_smoothing:
        sentences.append(
            f"The training loss used label smoothing of {scalar(training.label_smoothing)} "
            f"{cite('label smoothing')}."
        )
    if training.precision != "float32":
        scaled = ", with scaled gradients" if training.precision == "fp16" else ""
        sentences.append(f"Models ran forward in {training.precision}{scaled} (mixed precision).")
    return sentences


def _schedule(training: Training, cite: Citations) -> str:
    if training.schedule == "constant" and not training.warmup:
        return "a constant learning rate"
    if training.schedule == "one-cycle":
        return (
            "a learning rate that rises from a 25th of its value along a cosine over the first "
            f"{percent(training.warmup)} of the steps and then falls along a cosine to a 250,000th of it "
            f"{cite('one-cycle')}"
        )
    if not training.warmup:
        return f"a learning rate that {_course(training, cite)}"
    rise = f"rises linearly over the first {percent(training.warmup)} of the steps {cite('warm-up')}"
    return f"a learning rate that {rise} and then {_course(training, cite)}"


def _course(training: Training, cite: Citations) -> str:
    match training.schedule:
        case "cosine" | "warmup-cosine":
            return f"decays to zero along a cosine {cite('cosine')}"
        case "linear":
            return "decays linearly to zero"
        case "step":
            times = "at one point" if training.step_drops == 1 else f"at {count(training.step_drops)} points"
            return (
                f"is multiplied by {scalar(training.step_factor)} {times} that divide the steps into equal "
                f"parts {cite('step')}"
            )
        case "wsd":
            return (
                f"is constant until the last {percent(training.decay_fraction)} of the steps, in which it "
                f"decays linearly to zero {cite('wsd')}"
            )
        case "warm-restarts":
            growth = (
                f", each {scalar(training.cycle_growth)} times as long as the one before"
                if training.cycles > 1
                else ""
            )
            return (
                f"decays to zero along each of {plural(training.cycles, 'cosine')}{growth} {cite('cosine')}"
            )
        case "constant" | "one-cycle":
            return "stays constant"
