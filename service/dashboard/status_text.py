"""What is happening to a study, or how it ended, in words."""

__all__ = ["describe_status"]

from studies.formatting import count, duration, plural
from studies.states import StudyState
from studies.views import StudyView


def describe_status(study: StudyView, *, outage: str | None = None) -> str:
    """Return what is happening to a study, or how it ended, in one or two sentences.

    Args:
        study: the study.
        outage: why no dispatcher can run it, in sentences; None if one can.
    """
    p = study.progress
    in_training = p.running + p.confirmations_running
    match study.state:
        case StudyState.QUEUED | StudyState.RUNNING if not in_training and outage is not None:
            return outage
        case StudyState.QUEUED if not in_training:
            return "Waiting for a dispatcher to resume it." if p.finished else "Waiting for a dispatcher."
        case StudyState.RUNNING if not in_training and _is_being_checked(study):
            return f"Checking the workload {study.workload} before the first trial."
        case StudyState.QUEUED | StudyState.RUNNING:
            return _describe_progress(study)
        case StudyState.PAUSED if in_training:
            running = plural(in_training, "running trial")
            return f"{running} will finish. No more will start until you resume the study."
        case StudyState.PAUSED:
            return "No trial will start until you resume the study."
        case StudyState.STOPPING:
            return "Stopping the running trials. The results so far are kept."
        case StudyState.CANCELLING:
            return "Stopping the running trials."
        case _:
            return _describe_end(study)


def _is_being_checked(study: StudyView) -> bool:
    """Return whether a running study waits for the check of a package's workload."""
    has_check = study.spec.check_workload and study.workload_card.package is not None
    return has_check and not study.check_results and not study.progress.finished


def _describe_progress(study: StudyView) -> str:
    p = study.progress
    if p.finished >= p.trials and p.confirmations:
        return (
            f"The search has ended. {count(p.confirmations_finished)} of "
            f"{plural(p.confirmations, 'confirmation run')} finished, "
            f"{count(p.confirmations_running)} in training."
        )
    counts = [f"{plural(p.running, 'trial')} in training"]
    if p.confirmations_running:
        counts.append(f"{plural(p.confirmations_running, 'confirmation run')} in training")
    if p.waiting:
        counts.append(f"{count(p.waiting)} waiting at a rung")
    counts.append(f"{count(p.trials - p.finished - p.running - p.waiting)} to come")
    return f"{', '.join(counts)}."


def _describe_end(study: StudyView) -> str:
    p = study.progress
    elapsed = (
        duration((study.ended_at - study.started_at).total_seconds())
        if study.ended_at and study.started_at
        else ""
    )
    after = f" after {elapsed}" if elapsed else ""
    reason = _sentence(study.state_reason) if study.state_reason else ""
    completed = f"{count(p.completed)} of {plural(p.trials, 'trial')} had completed."
    missing = p.trials - (p.completed + p.diverged + p.pruned + p.failed)
    match study.state:
        case StudyState.COMPLETED if missing:
            return (
                f"Stopped early{after}: {count(missing)} of {plural(p.trials, 'trial')} "
                f"{'was' if missing == 1 else 'were'} not trained to the end."
            )
        case StudyState.COMPLETED:
            runs = (
                f" and {plural(p.confirmations_finished, 'confirmation run')}"
                if p.confirmations_finished
                else ""
            )
            within = f" in {elapsed}" if elapsed else ""
            return f"{plural(p.trials, 'trial')}{runs} finished{within}. {reason}".rstrip()
        case StudyState.FAILED:
            return f"Failed{after}: {reason or 'no reason was recorded.'} {completed}"
        case _:
            return f"Cancelled{after}: {completed}"


def _sentence(text: str) -> str:
    text = text.strip()
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")
