"""Best configurations at the edge of the search space, and the study with a wider one."""

__all__ = ["edges", "widened"]

import math
from collections.abc import Iterator, Mapping
from typing import Any, Final, Literal

from studies.analysis.study_results import ArmResults, StudyResults
from studies.analysis.views import Check
from studies.catalog import Hyperparameter
from studies.errors import SpecInvalid
from studies.formatting import percent, scalar
from studies.space import AnyDimension, Choices, Fixed, Range, Scalar, is_active
from studies.spec import StudySpec, parse_spec, to_copy
from studies.statistics.sensitivity import edge_nearby

Edge = Literal["lower", "upper"]

_FACTOR: Final = 10
"""Factor by which a logarithmic range is widened."""
_PART: Final = 0.5
"""Part of its width by which a linear range is widened."""
_MATTERS: Final = 0.1
"""Importance from which on an edge puts the comparison in doubt."""
_FEWEST_VALUES: Final = 4
_LONGEST_NAME: Final = 200


def edges(results: StudyResults, arm: ArmResults, importance: Mapping[str, float]) -> Iterator[Check]:
    """Yield a check for each searched number whose best value lies at the edge of its range, or beyond.

    The limit of legal values does not count as an edge, because nothing lies beyond it. For a
    hyperparameter that hardly matters, the check is not a warning: where its best value lies is chance.

    Args:
        results: the study.
        arm: the arm.
        importance: importances of its hyperparameters; empty with too few trials.

    Source: Godbole et al. (2023), Deep Learning Tuning Playbook, "Identifying bad search space boundaries".
    """
    if arm.best is None:
        return
    best, conditions = arm.best.trial.parameters, arm.view.conditions
    for hyperparameter in arm.view.hyperparameters:
        name = hyperparameter.name
        dimension, value = arm.view.space.get(name, Fixed(value=0)), best.get(name)
        if value is None or isinstance(value, bool | str) or not is_active(name, conditions, best):
            continue
        edge = _edge(dimension, float(value))
        if edge is None:
            continue
        wider = _wider(dimension, float(value), edge, hyperparameter)
        if wider is None:
            continue
        low, high = _ends(dimension)
        is_outside = not low <= value <= high
        if is_outside:
            sentence = (
                f"{arm.label}: its defaults did best, with {name} = {scalar(value)} outside the searched "
                f"range ({_range(low, high)})."
            )
        else:
            where = f"{'at' if value in {low, high} else 'near'} the {edge} edge"
            sentence = (
                f"{arm.label}: the best {name}, {scalar(value)}, lies {where} of its range "
                f"({_range(low, high)}); a wider range might do better."
            )
        matters = importance.get(name)
        if matters is not None and matters < _MATTERS:
            sentence += f" It hardly matters: its importance is {percent(matters)}."
        yield Check(
            kind="edge-of-space",
            arm=arm.name,
            is_warning=name == "lr" or matters is None or matters >= _MATTERS,
            sentence=sentence,
            figures={"value": float(value), "low": low, "high": high}
            | ({} if matters is None else {"importance": matters}),
            spec=widened(results.study.spec, arm.name, name, wider),
        )


def widened(spec: StudySpec, arm: str, name: str, dimension: AnyDimension) -> dict[str, Any] | None:
    """Return the study with another dimension for one hyperparameter of one arm, ready to submit.

    What the study searches for every arm changes for every arm. None if that is not a valid study.

    Args:
        spec: the study.
        arm: name of the arm.
        name: name of the hyperparameter.
        dimension: its new dimension.
    """
    data = to_copy(spec)
    body = next((each for each in data["arms"] if each["name"] == arm), None)
    if body is None:
        return None
    is_shared = name in spec.space and name not in body["space"]
    changed = data if is_shared else body
    changed["space"] = {**changed["space"], name: dimension.model_dump(mode="json")}
    if spec.sampler == "grid" and isinstance(dimension, Choices):
        # A grid with one more choice has more points.
        data["budget"]["trials_per_arm"] = math.ceil(
            spec.budget.trials_per_arm * len(dimension.choices) / (len(dimension.choices) - 1)
        )
    ending = f", wider {name}" if is_shared else f", wider {name} for {arm}"
    # A second study of this workload in the suite would make the workload count twice.
    data["suite"] = None
    data["name"] = f"{spec.name[: _LONGEST_NAME - len(ending)]}{ending}"
    try:
        return parse_spec(data).model_dump(mode="json")
    except SpecInvalid:
        return None


def _edge(dimension: AnyDimension, value: float) -> Edge | None:
    """Return the edge of a numeric dimension that a value lies at or beyond, or None.

    A dimension without an order, or with too few values, has no edges.
    """
    match dimension:
        case Range():
            if value < dimension.low:
                return "lower"
            if value > dimension.high:
                return "upper"
            if dimension.integer:
                if dimension.high - dimension.low < _FEWEST_VALUES - 1:
                    return None
                return "lower" if value == dimension.low else "upper" if value == dimension.high else None
            return edge_nearby(value, low=dimension.low, high=dimension.high, log=dimension.log)
        case Choices():
            values = _numbers(dimension)
            if len(values) < _FEWEST_VALUES - 1:
                return None
            return "lower" if value <= values[0] else "upper" if value >= values[-1] else None
        case Fixed():
            return None


def _wider(
    dimension: AnyDimension, value: float, edge: Edge, hyperparameter: Hyperparameter
) -> AnyDimension | None:
    """Return the dimension extended beyond one edge, as far as the optimizer's card allows.

    None if the card allows no more.
    """
    low, high = _ends(dimension)
    low, high = min(low, value), max(high, value)
    values = _numbers(dimension) if isinstance(dimension, Choices) else []
    is_log = dimension.log if isinstance(dimension, Range) else min(low, *values) > 0
    is_whole = (isinstance(dimension, Range) and dimension.integer) or isinstance(hyperparameter.default, int)
    if isinstance(dimension, Choices) and is_log:
        # One more step of the choices' own ratio.
        end = values[0] ** 2 / values[1] if edge == "lower" else values[-1] ** 2 / values[-2]
    elif isinstance(dimension, Choices):
        end = 2 * values[0] - values[1] if edge == "lower" else 2 * values[-1] - values[-2]
    elif is_log:
        end = low / _FACTOR if edge == "lower" else high * _FACTOR
    else:
        end = low - _PART * (high - low) if edge == "lower" else high + _PART * (high - low)
    # A tenth of 1e-05 must be 1e-06 to its last digit.
    end = _legal(float(f"{end:.12g}"), low if edge == "lower" else high, edge, hyperparameter)
    if not math.isfinite(end):
        return None
    if is_whole:
        end = float(math.floor(end) if edge == "upper" else math.ceil(end))
    if (
        (end >= low and edge == "lower")
        or (end <= high and edge == "upper")
        or hyperparameter.fault(_typed(end, is_whole=is_whole)) is not None
    ):
        return None
    if isinstance(dimension, Choices):
        return Choices(choices=(*dimension.choices, _typed(end, is_whole=is_whole)))
    assert isinstance(dimension, Range), "a fixed value has no edge"
    if dimension.log and (low if edge == "upper" else end) <= 0:
        return None
    return dimension.model_copy(
        update={"low": end if edge == "lower" else low, "high": end if edge == "upper" else high}
    )


def _legal(end: float, before: float, edge: Edge, hyperparameter: Hyperparameter) -> float:
    """Return an end that the optimizer accepts: its bound, or half way to a bound that is open."""
    bounds = hyperparameter.bounds
    if bounds is None or bounds.admits(end):
        return end
    bound, is_open = (bounds.low, bounds.low_open) if edge == "lower" else (bounds.high, bounds.high_open)
    if bound is None:
        return end
    return (before + bound) / 2 if is_open else bound


def _typed(value: float, *, is_whole: bool) -> Scalar:
    return int(value) if is_whole else value


def _numbers(choices: Choices) -> list[float]:
    """Return the choices in ascending order; empty if one of them is not a number."""
    values = [value for value in choices.choices if not isinstance(value, bool | str)]
    return sorted(map(float, values)) if len(values) == len(choices.choices) else []


def _ends(dimension: AnyDimension) -> tuple[float, float]:
    if isinstance(dimension, Range):
        return dimension.low, dimension.high
    values = _numbers(dimension) if isinstance(dimension, Choices) else []
    return (values[0], values[-1]) if values else (math.nan, math.nan)


def _range(low: float, high: float) -> str:
    return f"{scalar(low)} to {scalar(high)}"
