"""The methods section describes every kind of study correctly, with complete citations."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
from catalogs import catalog
from running import Running

from service.analysis_cache import AnalysisCache
from service.report.manifest import FILES, MANIFEST
from service.report.method_of_search import _STARTUP
from service.report.methods import Methods, methods
from studies.pruner import PrunerName
from studies.resolve import resolve
from studies.seeds import confirmation_seed
from studies.spec import ADAPTIVE_SAMPLERS, SamplerName, parse_spec
from studies.states import StudyMove
from studies.store import Store
from studies.training_settings import ScheduleName
from studies.trials import Measurement, NewTrial, Report
from workers.sampling import ArmSampler

__all__: list[str] = []

Play = Callable[..., str]

CHOICES = {
    "optimizer": "adamw",
    "space": {"lr": {"choices": [0.001, 0.01]}, "weight_decay": {"choices": [0.0, 0.1]}},
}


@pytest.fixture
def written(store: Store, body: dict[str, Any]) -> Callable[..., Methods]:
    """Return the methods section of a study with these fields."""

    def methods_of(**fields: Any) -> Methods:
        return of(store, store.submit(parse_spec(body | fields)).id)

    return methods_of


def of(store: Store, study: str) -> Methods:
    return methods(store.study(study), store.arms(study), AnalysisCache(store).study(study))


def text_of(found: Methods) -> str:
    return " ".join(found.paragraphs).replace("\N{NO-BREAK SPACE}", " ")


def check(found: Methods) -> None:
    """Check that sentences are complete, citations and references match, and no code artefacts remain."""
    for paragraph in found.paragraphs:
        assert paragraph.endswith(".")
        assert not re.search(r"None|nan|\{[a-z_]|\.\.|  | ,|\(\)|<studies|;\.", paragraph), paragraph
    cited = re.findall(r"([A-Z][\w']+)(?: et al\.| and \w+)?, ((?:19|20)\d\d)", text_of(found))
    assert len(found.references) == len(set(found.references))
    for name, year in cited:
        assert any(name in entry and year in entry for entry in found.references), name
    for entry in found.references:
        assert any(name in entry and year in entry for name, year in cited), entry


@pytest.mark.parametrize(
    ("sampler", "expected"),
    [
        ("tpe", "tree-structured Parzen estimator (Bergstra et al., 2011)"),
        ("random", "independently and at random (Bergstra and Bengio, 2012)"),
        ("qmc", "scrambled Sobol' sequence (Sobol', 1967)"),
        ("gp", "Gaussian process"),
        ("cmaes", "covariance matrix adaptation evolution strategy (Hansen, 2016)"),
        ("grid", "the grid of all combinations, in random order"),
    ],
)
def test_every_sampler_is_described(written: Callable[..., Methods], sampler: str, expected: str) -> None:
    assert {sampler} <= set(get_args(SamplerName))
    found = written(
        sampler=sampler,
        arms=[CHOICES, CHOICES | {"name": "again"}],
        budget={"trials_per_arm": 4, "epochs": 2},
    )
    check(found)
    assert expected in text_of(found)
    assert ("Optuna" in text_of(found)) == (sampler in ADAPTIVE_SAMPLERS)
    assert ("counted as bad" in text_of(found)) == (sampler in ADAPTIVE_SAMPLERS)


def test_these_tests_cover_every_sampler_pruner_and_schedule() -> None:
    assert set(get_args(SamplerName)) == {"tpe", "random", "qmc", "gp", "cmaes", "grid"}
    assert set(get_args(PrunerName)) == {"none", "asha", "hyperband", "median"}
    assert set(get_args(ScheduleName)) == {schedule for schedule, *_ in SCHEDULES}


@pytest.mark.parametrize(
    ("pruner", "expected"),
    [
        ("none", "No trial was pruned."),
        (
            {"kind": "asha", "min_epochs": 1, "reduction_factor": 3},
            "at epochs 1 and 3: one in 3 of the trials",
        ),
        (
            {"kind": "asha", "min_epochs": 4, "reduction_factor": 3},
            "at epoch 4: one in 3 of the trials",
        ),
        ({"kind": "hyperband", "reduction_factor": 3}, "3 brackets"),
        (
            {"kind": "median", "min_epochs": 2, "every_epochs": 3, "min_trials": 2},
            "at epochs 2, 5 and 8: a trial stopped if",
        ),
    ],
)
def test_every_pruner_is_described_with_its_rungs(
    written: Callable[..., Methods], pruner: Any, expected: str
) -> None:
    found = written(pruner=pruner, budget={"trials_per_arm": 9, "epochs": 9})
    check(found)
    assert expected in text_of(found)


SCHEDULES = [
    ("constant", {}, "a constant learning rate."),
    ("constant", {"warmup_fraction": 0.2}, "first 20 % of the steps (Goyal et al., 2017) and then stays"),
    ("cosine", {}, "cosine (Loshchilov and Hutter, 2017)."),
    ("warmup-cosine", {"warmup_fraction": 0.1}, "first 10 % of the steps (Goyal et al., 2017)"),
    ("linear", {}, "decays linearly to zero."),
    ("step", {}, "multiplied by 0.1 at 2 points that divide the steps into equal parts (He et al., 2016)"),
    ("one-cycle", {}, "first 30 % of the steps"),
    ("wsd", {}, "until the last 20 % of the steps, in which it decays linearly to zero (Hu et al., 2024)"),
    ("warm-restarts", {}, "each of 3 cosines, each 2 times as long as the one before (Loshchilov"),
]


@pytest.mark.parametrize(("schedule", "numbers", "expected"), SCHEDULES)
def test_every_schedule_is_described(
    written: Callable[..., Methods], schedule: str, numbers: dict[str, Any], expected: str
) -> None:
    found = written(training={"schedule": schedule, "decay_1d": False, **numbers})
    check(found)
    assert expected in text_of(found)
    assert "Weight decay was not applied" in text_of(found)


def test_every_setting_of_a_step_is_described_if_it_is_used(written: Callable[..., Methods]) -> None:
    settings = {"clip_norm": 1.0, "clip_value": 0.5, "accumulation_steps": 4, "ema_decay": 0.99}
    settings |= {"label_smoothing": 0.1, "precision": "bf16"}
    found = written(training=settings)
    check(found)
    for expected in (
        "averaged the gradients of 4 batches",
        "an absolute value of 0.5, then all of them together to a norm of 1 (Pascanu et al., 2013)",
        "a decay of 0.99 per step (Polyak and Juditsky, 1992)",
        "label smoothing of 0.1 (Szegedy et al., 2016)",
        "ran forward in bf16 (mixed",
    ):
        assert expected in text_of(found)
    assert not any(word in text_of(written()) for word in ("clipped", "averaged", "smoothing", "bf16"))


def test_a_budget_of_steps_is_described_with_its_intervals(written: Callable[..., Methods]) -> None:
    found = written(budget={"trials_per_arm": 3, "steps": 6000, "evaluate_every": 500}, pruner="asha")
    check(found)
    assert "was trained for 6,000 steps and evaluated after every 500 steps, an interval" in text_of(found)
    assert "3 trials of at most 12 epochs" in text_of(found)


def test_splits_spaces_and_seeds_are_described(written: Callable[..., Methods]) -> None:
    found = text_of(written(seed=7))
    for expected in (
        "1,000 training, 300 validation and 300 test examples",
        (
            "AdamP (made up), searched over lr from 1e-05 to 1 (log scale), "
            "weight_decay from 0.0001 to 1 (log scale)"
        ),
        "fixed: beta1 = 0.9, beta2 = 0.999",
        "lr * weight_decay < 1 - beta1",
        "the study's seed 7",
        "3 trials of at most 2 epochs",
        "5 fresh seeds",
    ):
        assert expected in found


def test_a_small_space_is_named_with_its_number_of_trials(written: Callable[..., Methods]) -> None:
    found = written(arms=["adamp", CHOICES], budget={"trials_per_arm": 50, "epochs": 1}, sampler="random")
    check(found)
    assert "adamw (5)" in text_of(found)


def test_replicates_and_trials_are_counted_separately(written: Callable[..., Methods]) -> None:
    found = written(budget={"trials_per_arm": 3, "epochs": 1, "replicates": 4})
    check(found)
    assert "3 trials" in text_of(found)
    assert "repeated 4 times" in text_of(found)
    assert "best configuration by validation in each replicate" in text_of(found)


def test_confirmation_is_described_as_requested(written: Callable[..., Methods]) -> None:
    assert "trained alone" in text_of(written(confirmation={"seeds": 1, "solo": True}))
    assert "1 fresh seed." in text_of(written(confirmation={"seeds": 1}))
    nothing = written(confirmation={"seeds": 0})
    check(nothing)
    assert "No configuration was retrained on fresh seeds" in text_of(nothing)


def test_the_tests_behind_a_verdict_are_described(store: Store, play: Play, body: dict[str, Any]) -> None:
    found = of(store, play(body | {"budget": {"trials_per_arm": 12, "epochs": 2}}, confirm=5))
    check(found)
    assert "Holm's method over all pairs (Holm, 1979)" in text_of(found)
    assert "Of 24 trials, 22 completed and 2 diverged." in text_of(found)


def test_an_open_study_says_that_it_is_not_finished(written: Callable[..., Methods]) -> None:
    assert "The study is not finished: it is queued." in text_of(written())


def test_a_single_arm_is_not_compared(written: Callable[..., Methods]) -> None:
    found = written(arms=["adamw"])
    check(found)
    assert text_of(found).startswith("We studied AdamW on")


@pytest.mark.parametrize(("trials", "random"), [(4, 4), (20, 5), (40, 10), (1000, 10)])
def test_the_described_random_start_is_that_of_the_sampler(trials: int, random: int) -> None:
    plan = resolve(
        parse_spec({"workload": "digits-mlp", "arms": ["adamw"], "budget": {"trials_per_arm": trials}}),
        catalog(),
    )
    sampler = ArmSampler(plan.arms[0], sampler="tpe", direction="maximize", seed=0)
    assert "a quarter of the arm's trials, at least 4 and at most 10" in _STARTUP
    assert sampler._startup() == random


def test_docs_report_describes_every_file_of_a_bundle() -> None:
    described = (Path(__file__).parents[2] / "docs" / "report.md").read_text(encoding="utf-8")
    assert [name for name in (*FILES, MANIFEST) if f"`{name}`" not in described] == []


def stopped(store: Store, body: dict[str, Any], *, confirmed: int = 0) -> str:
    """Return a study that was stopped after one of three trials per arm and `confirmed` confirmation runs."""
    study = store.submit(parse_spec(body)).id
    claim = store.claim_next(dispatcher="here", lease_s=60.0)
    assert claim is not None
    writer = store.run_writer(claim, lease_s=60.0)
    arms = store.arms(study)
    new = [NewTrial(arm.name, 0, "default", arm.defaults, seed=7) for arm in arms]
    first = arms[0]
    new += [
        NewTrial(
            first.name,
            n,
            "default",
            first.defaults,
            seed=confirmation_seed(0, n),
            phase="confirmation",
            confirms=0,
        )
        for n in range(confirmed)
    ]
    pending = writer.create(new)
    writer.start(pending)
    for epoch in (1, 2):
        measured = Measurement(
            epoch=epoch, elapsed_s=0.1, lr=0.1, train_loss=1.0, validation_loss=1.0, validation_metric=0.5
        )
        ended: dict[str, Any] = (
            {"ended": "completed", "value": 0.5, "best_epoch": 2, "test_value": 0.5} if epoch == 2 else {}
        )
        writer.record([Report(trial.id, 1, measured, **ended) for trial in pending])
    store.move(study, StudyMove.STOP)
    writer.close(StudyMove.FINISH)
    return study


def test_a_stopped_study_claims_only_what_was_run(store: Store, body: dict[str, Any]) -> None:
    found = of(store, stopped(store, body))
    check(found)
    assert "6 trials planned, 2 completed." in text_of(found)
    assert "were retrained" not in text_of(found)
    assert "were to be retrained on 5 fresh seeds" in text_of(found)


def test_confirmation_runs_before_a_stop_are_counted(store: Store, body: dict[str, Any]) -> None:
    found = of(store, stopped(store, body, confirmed=2))
    check(found)
    assert "were retrained on 5 fresh seeds" in text_of(found)
    assert "Not all of these runs were finished: 2 of them count." in text_of(found)


def test_one_trial_is_counted_in_the_singular(store: Store, play: Play, body: dict[str, Any]) -> None:
    study = store.study(play(body))
    outcomes = {"trials": 2, "finished": 2, "completed": 0, "diverged": 0, "pruned": 1, "cancelled": 1}
    progress = study.progress.model_copy(update=outcomes)
    found = methods(
        study.model_copy(update={"progress": progress}),
        store.arms(study.id),
        AnalysisCache(store).study(study.id),
    )
    assert "Of 2 trials, 1 was pruned and 1 was cancelled." in text_of(found)


def test_an_open_study_counts_its_trials_so_far(store: Store, play: Play, body: dict[str, Any]) -> None:
    assert "Of 6 trials, 4 completed and 2 diverged so far." in text_of(of(store, play(body, close=False)))


def test_a_workload_without_examples_has_no_splits(store: Store, body: dict[str, Any]) -> None:
    study = store.study(store.submit(parse_spec(body)).id)
    card = study.workload_card.model_copy(update={"examples": {"train": 100, "validation": 1, "test": 1}})
    analysis = AnalysisCache(store).study(study.id)
    found = methods(study.model_copy(update={"workload_card": card}), store.arms(study.id), analysis)
    check(found)
    assert "split once" not in text_of(found)
    assert "1 test examples" not in text_of(found)


def test_rungs_are_described_per_replicate(written: Callable[..., Methods]) -> None:
    many = written(pruner="asha", budget={"trials_per_arm": 9, "epochs": 9, "replicates": 2})
    assert "within each replicate of each arm" in text_of(many)
    assert "within each arm by" in text_of(written(pruner="asha", budget={"trials_per_arm": 9, "epochs": 9}))


def test_a_stopped_search_is_not_described_as_a_small_space(store: Store, body: dict[str, Any]) -> None:
    study = store.study(stopped(store, body))
    arms = store.arms(study.id)
    fewer = arms[0].model_copy(update={"progress": arms[0].progress.model_copy(update={"trials": 1})})
    found = methods(study, (fewer, *arms[1:]), AnalysisCache(store).study(study.id))
    check(found)
    assert "stopped: adamp (1)." in text_of(found)
    assert "smaller search spaces" not in text_of(found)
    assert "the same budget" not in text_of(found)


def test_complete_confirmation_runs_are_not_described_as_missing(
    store: Store, play: Play, body: dict[str, Any]
) -> None:
    assert "Not all of these runs" not in text_of(of(store, play(body, confirm=5)))


def deciding(store: Store, **fields: Any) -> Running:
    """Return a study that began with 16 pairs and had no clear result before 40 of them."""
    store.announce(catalog(), dispatcher="here")
    until = {"max_pairs": 40, "drop_losers": True}
    given = {"budget": {"trials_per_arm": 20, "epochs": 1}, "search": {"paired": 16, "until": until}}
    running = Running(store, **given | fields)
    noise = {"adamp": 0, "adamw": 31, "stepper": 62}

    def value(trial: str, _epoch: int) -> float:
        found = store.trial(trial)
        return 0.5 + (found.seed + noise[found.arm]) % 97 / 1000 - 0.3 * (found.arm == "stepper")

    running.train_all(value=value)
    running.close()
    return running


def test_pairs_that_were_added_are_counted_apart_from_the_budget(store: Store) -> None:
    study = deciding(store).study.id
    found = of(store, study)
    check(found)
    assert "The next trials of each arm had random configurations" in text_of(found)
    assert "began with 16 pairs and could add more, up to 40" in text_of(found)
    assert "in all, 40 pairs of trials ended in every arm" in text_of(found)
    assert "20 trials of at most 1 epoch beside the pairs that were added" in text_of(found)
    assert "not a point of their grid" not in text_of(found)
    limits = " ".join(AnalysisCache(store).study(study).finding.limits).replace("\N{NO-BREAK SPACE}", " ")
    assert "16 of them paired) and 24 pairs that were added." in limits


def test_an_arm_that_lost_early_is_named_with_its_look(store: Store) -> None:
    found = of(store, deciding(store, arms=["adamp", "adamw", "stepper"]).study.id)
    check(found)
    assert re.search(r"Stepper was worse than every other arm by the look at \d+ pairs", text_of(found))


def test_a_finite_arm_keeps_its_number_of_configurations_when_pairs_are_added(store: Store) -> None:
    choices = CHOICES | {"name": "adamw"}
    budget = {"trials_per_arm": 30, "epochs": 1}
    found = of(store, deciding(store, arms=["adamp", choices], budget=budget).study.id)
    check(found)
    assert "the plan was to try every configuration: adamw (21)." in text_of(found)
