"""A study checked against a catalog: each arm's complete search space, its defaults and its trials."""

__all__ = ["ResolvedArm", "ResolvedStudy", "resolve", "resolve_arms"]

import math
from collections.abc import Iterable, Mapping, Sequence

from pydantic import Field

from studies.catalog import Catalog, Hyperparameter, OptimizerCard, WorkloadCard
from studies.errors import CatalogEmpty, SpecInvalid, SpecProblem, json_pointer
from studies.formatting import plural
from studies.frozen_model import FrozenModel
from studies.objective import metric_problems
from studies.paired_search import pairing_problems
from studies.promotion import rungs
from studies.pruner import NoPruner
from studies.resource_checks import resource_problems, shared_trial_problems
from studies.searchable import (
    GROUPS,
    WORKLOAD,
    broken_constraint,
    conditions_of,
    is_of_other_optimizers,
    is_optimizers_own,
    searchable,
    why_without_effect,
)
from studies.space import (
    AnyDimension,
    Choices,
    Condition,
    Fixed,
    Parameters,
    Range,
    Scalar,
    Space,
    configuration_key,
    every_point,
    size,
    without_inert,
)
from studies.space_entries import Pair, SpaceEntry, Tune
from studies.space_problems import describe_unknown, hint_for_plain_name, unused_dimensions
from studies.spec import ArmSpec, SamplerName, StudySpec, Training
from studies.training_problems import measured_card, training_problems
from studies.training_settings import TrainingOptions

# A grid is enumerated before its first trial.
_MAX_GRID_POINTS = 100_000


class ResolvedArm(FrozenModel):
    """One arm with every name looked up: all that its run needs and its page shows."""

    name: str = Field(description="Name of the arm in its study.")
    card: OptimizerCard = Field(description="The optimizer's card when the study was submitted.")
    further_hyperparameters: tuple[Hyperparameter, ...] = Field(
        default=(),
        description="What the study sets or searches beside the optimizer's hyperparameters: dotted names.",
    )
    overrides: tuple[str, ...] = Field(
        default=(), description="The dotted names that this arm's own space sets, for this arm alone."
    )
    space: Space = Field(
        description="The dimension of every hyperparameter: the card's in its order, then the dotted names."
    )
    defaults: Parameters = Field(
        description="The first trial: the optimizer's defaults with the values that the study fixes."
    )
    trials: int = Field(
        gt=0,
        description=(
            "Trials that this arm runs in each replicate: the budget, or the number of configurations in its "
            "space if there are fewer. Defaults that are not on a grid are one more. Paired trials come on "
            "top, because they may repeat a configuration; if they do not, the search ends earlier."
        ),
    )

    @property
    def hyperparameters(self) -> tuple[Hyperparameter, ...]:
        """The optimizer's hyperparameters, then those with dotted names."""
        return *self.card.hyperparameters, *self.further_hyperparameters

    @property
    def conditions(self) -> dict[str, Condition]:
        """The condition of each hyperparameter that has one."""
        return conditions_of(self.hyperparameters)

    def admits(self, parameters: Parameters) -> bool:
        """Return whether the parameters lie in the arm's space."""
        return all(dimension.contains(parameters[name]) for name, dimension in self.space.items())

    def beyond_budget(self, sampler: SamplerName) -> int:
        """Return how many trials come on top of the budget: defaults that are not a point of the grid."""
        return int(sampler == "grid" and not self.admits(self.defaults))

    def trials_for(self, budget: int, sampler: SamplerName, *, paired: int) -> int:
        """Return how many trials the arm runs in each replicate with a budget of trials.

        Of a finite space this is an upper bound, because paired trials may repeat a configuration.

        Args:
            budget: trials of the budget.
            sampler: the study's sampler.
            paired: how many of its first trials are paired.
        """
        return int(min(budget + self.beyond_budget(sampler), self.configurations() + paired))

    def configurations(self) -> float:
        """Return how many configurations train differently, including the defaults.

        This is an upper bound if there are too many to enumerate.
        """
        return _configurations(self.conditions, self.space, self.defaults) + (
            0 if self.admits(self.defaults) else 1
        )


def _configurations(every: Mapping[str, Condition], space: Space, defaults: Parameters) -> float:
    conditions = {
        name: condition for name, condition in every.items() if name in space and condition.parameter in space
    }
    controlling = {condition.parameter for condition in conditions.values()}
    total = size(space)
    if not conditions or any(size({name: space[name]}) > _MAX_GRID_POINTS for name in controlling):
        return total
    if controlling & set(conditions):
        # A condition depends on a hyperparameter that has a condition itself, so look at every point.
        if total > _MAX_GRID_POINTS:
            return total
        points = (without_inert(point, conditions, defaults) for point in every_point(space))
        return len({configuration_key(point) for point in points})
    found = size(
        {
            name: dimension
            for name, dimension in space.items()
            if name not in controlling and name not in conditions
        }
    )
    for other in controlling:
        # At each of its values, a hyperparameter that has no effect counts once, at its default.
        dependent = [
            (name, size({name: space[name]}))
            for name, condition in conditions.items()
            if condition.parameter == other
        ]
        found *= sum(
            math.prod(width if conditions[name].holds(point) else 1.0 for name, width in dependent)
            for point in every_point({other: space[other]})
        )
    return found


class ResolvedStudy(FrozenModel):
    """A study that can be run: every name is looked up and every space is complete."""

    workload: WorkloadCard = Field(
        description="The workload's card when the study was submitted, by the study's objective."
    )
    arms: tuple[ResolvedArm, ...] = Field(description="The arms, in the study's order.")
    epochs: int = Field(gt=0, description="Epochs of each trial; with a budget of steps, its intervals.")
    interval_steps: int | None = Field(
        default=None, gt=0, description="Steps of the interval that replaces an epoch; null for epochs."
    )
    batch_size: int = Field(gt=0, description="Examples per step.")
    adds_pairs: bool = Field(default=True, description="False if `search.until` adds no more pairs.")

    def epoch_s(self, training: TrainingOptions) -> float | None:
        """Return the rough seconds of an epoch, or of its interval, on one CPU thread; None if unknown.

        Args:
            training: the study's settings.
        """
        if self.interval_steps is None or self.workload.epoch_s is None:
            return self.workload.epoch_s
        trained = self.interval_steps * training.accumulation_steps * self.batch_size
        return self.workload.epoch_s * trained / self.workload.examples.get("train", trained)


class _ArmResolver:
    """Resolves one arm and collects every problem that it finds."""

    def __init__(
        self,
        arm: ArmSpec,
        card: OptimizerCard,
        *,
        pointer: str,
        sampler: SamplerName,
        shared: Mapping[str, SpaceEntry],
        workload: WorkloadCard | None,
        training: Training,
        optimizers: Iterable[OptimizerCard],
    ) -> None:
        self._arm = arm
        self._card = card
        self._pointer = pointer
        self._sampler: SamplerName = sampler
        self._shared = shared
        self._workload = workload
        self._optimizers = optimizers
        self._further = searchable(
            workload, card, {**training.model_dump(), "warmup_fraction": training.warmup}
        )
        # Where the study sets each hyperparameter: in the arm's space or in its own, by the hyperparameter's
        # name or by that of its pair.
        self._entry_of: dict[str, str] = {}
        self.problems: list[SpecProblem] = []

    def resolve(self, trials_per_arm: int, *, paired: int) -> ResolvedArm | None:
        """Return the arm, or None if there are problems."""
        given = self._entries()
        # A grid searches only what the study lists, because the ranges on cards are continuous.
        further = [
            h for name, h in self._further.items() if name in given or (h.tuned and self._sampler != "grid")
        ]
        own = [h for h in self._card.hyperparameters if h.follows is None or h.name in given]
        hyperparameters = [*own, *further]
        space: Space = {h.name: self._dimension(h, given.get(h.name)) for h in hyperparameters}
        further = [self._with_condition(h, space) for h in further]
        self._fix_inert(space, set(given), [*own, *further])
        self._check_constraints(space)
        if self._sampler == "grid":
            self._check_grid(space)
        if self.problems:
            return None
        defaults: Parameters = {
            h.name: d.value if isinstance(d := space[h.name], Fixed) else h.default for h in hyperparameters
        }
        for h in hyperparameters:
            if h.follows is not None and not isinstance(space[h.name], Fixed):
                defaults[h.name] = defaults[self._followed(h.follows, space)]
        arm = ResolvedArm(
            name=self._arm.name,
            card=self._card,
            further_hyperparameters=tuple(further),
            overrides=tuple(h.name for h in further if h.name in self._arm.space),
            space=space,
            defaults=defaults,
            trials=1,
        )
        trials = arm.trials_for(trials_per_arm, self._sampler, paired=paired)
        return arm.model_copy(update={"trials": trials})

    def _problem(self, message: str, *, entry: str | None = None) -> None:
        """Record a problem with one entry of the space, or with the whole space."""
        steps = ("space",) if entry is None else ("space", entry)
        is_shared = entry is not None and entry in self._shared and entry not in self._arm.space
        pointer = "" if is_shared else self._pointer
        self.problems.append(SpecProblem(pointer + json_pointer(*steps), message))

    def _entries(self) -> dict[str, SpaceEntry]:
        """Return the study's entries with pairs split, and record unknown names as problems."""
        given: dict[str, SpaceEntry] = {}
        for name, entry in {**self._shared, **self._arm.space}.items():
            if self._is_skipped(name):
                continue
            parts = self._card.pairs.get(name)
            if parts is None and not self._is_known(name):
                self._problem(describe_unknown(name, self._card, self._workload, self._further), entry=name)
            elif parts is None and isinstance(entry, Pair):
                self._problem(
                    f"expected one value for {name}, got a pair; to choose between the two, write "
                    f"{{'choices': {list(entry.values)}}}",
                    entry=name,
                )
            elif parts is None:
                self._add(given, name, entry, entry_name=name)
            elif len(parts) > 2:
                self._problem(f"set {', '.join(parts)} instead of {name}", entry=name)
            elif isinstance(entry, Pair):
                for part, value in zip(parts, entry.values, strict=True):
                    self._add(given, part, Fixed(value=value), entry_name=name)
            else:
                self._problem(
                    f"expected two numbers for {name}, as in [0.9, 0.99]; to search them, set "
                    f"{' and '.join(parts)}",
                    entry=name,
                )
        return given

    def _is_skipped(self, name: str) -> bool:
        """Return whether an entry does not concern this arm, and record a problem if it should."""
        is_own = name in self._arm.space
        if self._workload is None and name.startswith((WORKLOAD, GROUPS)):
            # The unknown workload is the problem.
            return True
        if name not in self._further:
            return not is_own and is_of_other_optimizers(name, self._workload, self._optimizers)
        useless = why_without_effect(self._further[name], self._card)
        if useless is not None and is_own:
            self._problem(f"{name} has no effect in this arm: {useless}; remove it", entry=name)
        # What the study searches for every arm is not this arm's fault.
        return useless is not None

    def _is_known(self, name: str) -> bool:
        return name in self._further or self._card.hyperparameter(name) is not None

    def _add(self, given: dict[str, SpaceEntry], name: str, entry: SpaceEntry, *, entry_name: str) -> None:
        if name in given:
            self._problem(
                f"{name} is set twice, by {self._entry_of[name]} and by {entry_name}; remove one of them",
                entry=entry_name,
            )
        given[name] = entry
        self._entry_of[name] = entry_name

    def _followed(self, name: str, space: Space) -> str:
        """Return the name in the space from which a hyperparameter takes its value; itself if it has none."""
        hyperparameter = self._further.get(name) or self._card.hyperparameter(name)
        if name in space or hyperparameter is None or hyperparameter.follows is None:
            return name
        return self._followed(hyperparameter.follows, space)

    def _with_condition(self, hyperparameter: Hyperparameter, space: Space) -> Hyperparameter:
        """Return a hyperparameter whose condition depends on another in the space, if it has one.

        A condition on a setting that is the same in all trials either always holds, or is a problem.
        """
        condition = hyperparameter.active_when
        if condition is None:
            return hyperparameter
        condition = condition.model_copy(update={"parameter": self._followed(condition.parameter, space)})
        if condition.parameter in space:
            return hyperparameter.model_copy(update={"active_when": condition})
        value = self._further[condition.parameter].default
        if not condition.holds({condition.parameter: value}):
            self._problem(
                f"{hyperparameter.name} has an effect only if {condition}, and it is {value!r}; set it, or "
                f"remove {hyperparameter.name}",
                entry=hyperparameter.name,
            )
        return hyperparameter.model_copy(update={"active_when": None})

    def _dimension(self, hyperparameter: Hyperparameter, entry: SpaceEntry | None) -> AnyDimension:
        if entry is None:
            # A grid searches only what the study lists, because the ranges on cards are continuous.
            is_searched = hyperparameter.tuned and self._sampler != "grid"
            return hyperparameter.search if is_searched else Fixed(value=hyperparameter.default)
        if isinstance(entry, Tune):
            return hyperparameter.search
        assert not isinstance(entry, Pair), "pairs are split before"
        values: tuple[Scalar, ...]
        match entry:
            case Range():
                values = (int(entry.low), int(entry.high)) if entry.integer else (entry.low, entry.high)
                if (
                    isinstance(hyperparameter.default, int)
                    and not isinstance(hyperparameter.default, bool)
                    and not entry.integer
                ):
                    entry = entry.model_copy(update={"integer": True})
            case Choices():
                values = entry.choices
            case Fixed():
                values = (entry.value,)
        for value in values:
            wrong = hyperparameter.fault(value)
            if wrong is not None:
                self._problem(wrong, entry=self._entry_of[hyperparameter.name])
                break
        return entry

    def _fix_inert(self, space: Space, given: set[str], hyperparameters: Sequence[Hyperparameter]) -> None:
        """Fix hyperparameters that cannot have an effect here, so that no trial is spent on them."""
        for hyperparameter in hyperparameters:
            name, condition = hyperparameter.name, hyperparameter.active_when
            if condition is None or isinstance(space[name], Fixed):
                continue
            if condition.can_hold(space[condition.parameter]):
                continue
            if name in given:
                self._problem(
                    f"{name} has an effect only if {condition}; change {condition.parameter}, or remove "
                    f"{name}",
                    entry=name,
                )
            space[name] = Fixed(value=hyperparameter.default)

    def _check_constraints(self, space: Space) -> None:
        """Record every constraint that no configuration in the space meets."""

        def smallest(dimension: AnyDimension) -> Scalar:
            match dimension:
                case Range():
                    return dimension.low
                case Choices():
                    return min(dimension.choices, key=lambda c: float(c) if not isinstance(c, str) else 0.0)
                case Fixed():
                    return dimension.value

        if self.problems:
            return
        least = {name: smallest(dimension) for name, dimension in space.items()}
        constraint = broken_constraint(self._card, least)
        if constraint is not None:
            self._problem(
                f"{self._card.name} needs {constraint}, which no configuration in this space meets: "
                f"{constraint.reason}"
            )

    def _check_grid(self, space: Space) -> None:
        """Record a problem if no grid can cover the space."""
        continuous = [
            name
            for name, dimension in space.items()
            if isinstance(dimension, Range) and not dimension.integer
        ]
        if continuous:
            ranges = "is a continuous range" if len(continuous) == 1 else "are continuous ranges"
            self._problem(
                f"the grid sampler needs choices or whole numbers, but {', '.join(continuous)} {ranges}; "
                "write {'choices': [...]}"
            )
        elif size(space) > _MAX_GRID_POINTS:
            self._problem(
                f"expected a grid of at most {_MAX_GRID_POINTS} points, got {size(space):.0f}; give fewer "
                "values, or use another sampler"
            )


def resolve_arms(
    arms: Sequence[ArmSpec],
    catalog: Catalog,
    *,
    workload: WorkloadCard | None,
    sampler: SamplerName,
    trials_per_arm: int,
    paired: int,
    space: Mapping[str, SpaceEntry],
    training: Training,
) -> tuple[tuple[ResolvedArm, ...], list[SpecProblem]]:
    """Return the arms that can be run, and the problems of the others and of the study's own space.

    Pointers are `/arms/N/...`, where N is the arm's index in `arms`, or `/space/...`.

    Args:
        arms: the arms as submitted.
        catalog: where their optimizers are looked up.
        workload: the study's workload; None if it is unknown.
        sampler: the study's sampler.
        trials_per_arm: the study's budget.
        paired: paired trials of each arm.
        space: what the study sets or searches for every arm.
        training: the study's fixed settings.

    Raises:
        CatalogEmpty: no dispatcher has announced a catalog yet.
    """
    if not catalog.workloads or not catalog.optimizers:
        raise CatalogEmpty
    found: list[ResolvedArm] = []
    problems = [
        SpecProblem(
            json_pointer("space", name),
            f"expected a name with a dot, such as training.batch_size, got {name!r}; "
            + hint_for_plain_name(name, workload),
        )
        for name in space
        if is_optimizers_own(name)
    ]
    shared = {name: entry for name, entry in space.items() if not is_optimizers_own(name)}
    optimizers = catalog.optimizers.values()
    for n, arm in enumerate(arms):
        card = catalog.optimizers.get(arm.optimizer)
        if card is None:
            message = catalog.describe_unknown("optimizer", arm.optimizer)
            problems.append(SpecProblem(f"/arms/{n}/optimizer", message))
            continue
        resolver = _ArmResolver(
            arm,
            card,
            pointer=f"/arms/{n}",
            sampler=sampler,
            shared=shared,
            workload=workload,
            training=training,
            optimizers=optimizers,
        )
        resolved = resolver.resolve(trials_per_arm, paired=paired)
        problems += resolver.problems
        found += [resolved] if resolved is not None else []
    # Every arm finds the same faults in the study's own space.
    once = {(p.pointer, "" if p.pointer.startswith("/space") else p.message): p for p in reversed(problems)}
    return tuple(found), list(reversed(once.values()))


def resolve(spec: StudySpec, catalog: Catalog) -> ResolvedStudy:
    """Return the study with every name looked up and every arm's space complete.

    Raises:
        CatalogEmpty: no dispatcher has announced a catalog yet.
        SpecInvalid: the study cannot be run; carries every fault with its JSON pointer.
    """
    workload = catalog.workloads.get(spec.workload)
    arms, arm_problems = resolve_arms(
        spec.arms,
        catalog,
        workload=workload,
        sampler=spec.sampler,
        trials_per_arm=spec.budget.trials_per_arm,
        paired=spec.search.paired,
        space=spec.space,
        training=spec.training,
    )
    why = catalog.why_refused(spec.workload)
    problems = [] if why is None else [SpecProblem("/workload", why)]
    problems += pairing_problems(spec.search, spec.sampler, spec.budget, spec.arms)
    problems += arm_problems or unused_dimensions(spec.space, [(arm.card, arm.space) for arm in arms])
    batch_size = spec.training.batch_size
    limit = workload.examples.get("train") if workload is not None else None
    if batch_size is not None and limit is not None and batch_size > limit:
        problems.append(
            SpecProblem(
                "/training/batch_size",
                f"expected at most the {limit} training examples of {spec.workload}, got {batch_size}",
            )
        )
    problems += training_problems(spec, workload, {arm.name: arm.space for arm in arms}, catalog)
    epochs = (
        spec.budget.intervals or spec.budget.epochs or (workload.epochs if workload is not None else None)
    )
    interval = "epoch" if spec.budget.steps is None else "interval"
    if epochs is not None and not isinstance(spec.pruner, NoPruner) and not rungs(spec.pruner, epochs):
        problems.append(
            SpecProblem(
                "/pruner/min_epochs",
                f"expected fewer than the {plural(epochs, interval)} of a trial, because pruning there saves "
                f"nothing, got {spec.pruner.min_epochs}; lower it, raise the budget's "
                f"{'epochs' if spec.budget.steps is None else 'steps'}, or use the pruner 'none'",
            )
        )
    if workload is not None:
        workload, found = measured_card(spec, workload)
        problems += found or metric_problems(spec.objective, workload)
    problems += resource_problems(spec.resources)
    processes = spec.resources.processes_per_trial
    if workload is not None and processes > 1:
        problems += shared_trial_problems(spec, workload, processes)
    if problems or workload is None:
        raise SpecInvalid(problems)
    return ResolvedStudy(
        workload=workload.by_metric(spec.objective.metric or workload.metric),
        arms=arms,
        epochs=spec.budget.intervals or spec.budget.epochs or workload.epochs,
        interval_steps=spec.budget.evaluate_every,
        batch_size=spec.training.batch_size or workload.batch_size,
    )
