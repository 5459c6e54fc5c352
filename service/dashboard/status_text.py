"""What is happening to a study, or what happened to it, in words."""

__all__ = ["situation"]

from studies.formatting import count, duration, plural
from studies.states import StudyState
from studies.views import StudyView


def situation(study: StudyView, *, has_dispatcher: bool) -> str:
    """Return what is happening to a study, or what happened, in one or two sentences.

    Args:
        study: the study.
        has_dispatcher: whether any dispatcher lives.
    """
    p = study.progress
    match study.state:
        case StudyState.QUEUED if not has_dispatcher:
            return "No dispatcher is running. Start one with `tangent up` or `python -m workers`."
        case StudyState.QUEUED:
            return (
                "It will go on where it was paused."
                if p.finished
                else "A dispatcher will start it when it has room."
            )
        case StudyState.RUNNING if p.finished >= p.trials and p.confirmations:
            done = f"{count(p.confirmations_finished)} of {plural(p.confirmations, 'confirmation run')} done"
            return f"The search has ended; {done}, {count(p.confirmations_running)} in training."
        case StudyState.RUNNING:
            at_rungs = f"{count(p.waiting)} waiting at a rung, " if p.waiting else ""
            confirming = (
                f"; {count(p.confirmations_running)} more of a confirmation"
                if p.confirmations_running
                else ""
            )
            to_come = count(p.trials - p.finished - p.running - p.waiting)
            return f"{plural(p.running, 'trial')} in training{confirming}, {at_rungs}{to_come} to come."
        case StudyState.PAUSED if p.running + p.confirmations_running:
            return (
                f"{plural(p.running + p.confirmations_running, 'trial')} in flight will finish; no "
                "more will start until it is resumed."
            )
        case StudyState.PAUSED:
            return "Nothing runs until it is resumed."
        case StudyState.STOPPING:
            return "Trials in flight are being ended; what has finished is kept as the result."
        case StudyState.CANCELLING:
            return "Trials in flight are being ended."
        case _:
            return _end(study)


def _end(study: StudyView) -> str:
    p = study.progress
    took = (
        f" after {duration((study.ended_at - study.started_at).total_seconds())}"
        if study.ended_at and study.started_at
        else ""
    )
    reason = _sentence(study.state_reason) if study.state_reason else ""
    done = f"{count(p.completed)} of {plural(p.trials, 'trial')} had completed."
    missing = p.trials - (p.completed + p.diverged + p.pruned + p.failed)
    match study.state:
        case StudyState.COMPLETED if missing:
            return (
                f"Stopped early{took}: {count(missing)} of "
                f"{plural(p.trials, 'trial')} were not trained to their end."
            )
        case StudyState.COMPLETED:
            runs = (
                f" and {plural(p.confirmations_finished, 'confirmation run')}"
                if p.confirmations_finished
                else ""
            )
            return f"All {plural(p.trials, 'trial')}{runs} have ended{took}. {reason}".rstrip()
        case StudyState.FAILED:
            return f"It ended{took}: {reason or 'no reason was recorded.'} {done}"
        case _:
            return f"It ended{took}: {done}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
