"""Paired trials: the same in every arm, trained to the end, and kept by restarts, retries and extensions."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import pytest
from running import Running

from studies.analysis.analyse import analyse
from studies.promotion import bracket_of, planned_epochs
from studies.seeds import paired_seed, trial_seed
from studies.spec import parse_spec, to_copy
from studies.states import StudyMove
from studies.store import Store
from studies.views import TrialView
from workers.pack_protocol import Pack, StackWidth
from workers.worker_failures import WorkerFailure

__all__: list[str] = []

ASHA = {"kind": "asha", "min_epochs": 1, "reduction_factor": 3}
WHOLE_ADAMW = {"optimizer": "adamw", "name": "first", "space": {"beta1": {"low": 0.5, "high": 0.9}}}


def study(*, trials: int = 12, paired: int = 8, replicates: int = 1, epochs: int = 2, **fields: Any) -> Any:
    budget = {"trials_per_arm": trials, "epochs": epochs, "replicates": replicates}
    return {"budget": budget, "search": {"paired": paired}, **fields}


def by_lr(store: Store, trial: str, epoch: int) -> float | None:
    """Return a value that depends on the configuration and the seed; some trials diverge."""
    found = store.trial(trial)
    if found.seed % 7 == 0 and epoch == 2:
        return None
    return -abs(float(found.parameters["lr"]) - 0.01) + epoch / 1000 + found.seed % 100 / 1e6


def trained(store: Store, *, at_once: int = 2, **fields: Any) -> Running:
    running = Running(store, **study(**fields))
    running.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch), at_once=at_once)
    return running


def value_of(store: Store) -> Callable[[str, int], float]:
    """Return validation values by seed, in which `adamp` is ahead."""

    def value(trial: str, _epoch: int) -> float:
        found = store.trial(trial)
        return found.seed % 97 / 1000 + 0.02 * (found.arm == "adamp")

    return value


def pairs(trials: list[TrialView], arm: str, *, names: tuple[str, ...] = ("lr",)) -> dict[Any, Any]:
    """Return seed and values of an arm's paired trials by replicate and pair."""
    return {
        (t.replicate, t.pair_index): (t.seed, *(t.parameters[name] for name in names))
        for t in trials
        if t.arm == arm and t.pair_index is not None
    }


@pytest.mark.parametrize("sampler", ["random", "tpe", "qmc", "gp", "cmaes"])
def test_the_default_comes_first_then_the_pairs_then_the_sampler(store: Store, sampler: str) -> None:
    running = trained(store, sampler=sampler, replicates=2)
    for arm in ("adamp", "adamw"):
        for replicate in range(2):
            trials = [t for t in running.trials() if (t.arm, t.replicate) == (arm, replicate)]
            assert [t.pair_index for t in trials] == [None, *range(8), None, None, None]
            assert [t.origin for t in trials] == ["default", *["sampled"] * 11]
            assert [t.seed for t in trials] == [
                paired_seed(0, replicate, t.pair_index)
                if t.pair_index is not None
                else trial_seed(0, replicate)
                for t in trials
            ]
    first, second = (pairs(running.trials(), arm) for arm in ("adamp", "adamw"))
    assert first == second
    assert len(set(first.values())) == 16


def test_pairs_depend_neither_on_other_arms_nor_on_names_order_budgets_pruners_and_samplers(
    store: Store,
) -> None:
    expected = pairs(trained(store, sampler="random").trials(), "adamw")
    other = trained(
        store,
        arms=["stepper", WHOLE_ADAMW, "adamp"],
        trials=20,
        epochs=4,
        sampler="tpe",
        pruner="asha",
        at_once=1,
    )
    for arm in ("stepper", "first", "adamp"):
        assert pairs(other.trials(), arm) == expected


def test_pairs_are_dispatched_at_once_and_in_full_packs(store: Store) -> None:
    running = Running(store, slots=2, **study(trials=40, paired=31, sampler="tpe"))
    packs = [running.begin(f"p{n}") for n in range(3)]
    assert [len(pack.members) for pack in packs] == [16] * 3
    assert [pack.optimizer for pack in packs] == ["adamp", "adamw", "adamp"]
    assert running.scheduler.next_pack("more") is None, "only one pack may wait for a worker"


def test_a_model_waits_for_results_of_pairs_and_learns_from_them(store: Store) -> None:
    limits = {"max_pack_size": 5}
    fields = study(trials=40, paired=24, sampler="tpe", resources=limits)
    running = Running(store, slots=9, arms=["adamp"], **fields)
    packs: list[Pack] = []
    while (pack := running.scheduler.next_pack(f"p{len(packs)}")) is not None:
        running.recorder.started(pack.pack_id)
        packs.append(pack)
    assert sum(len(pack.members) for pack in packs) == 25
    done = 0
    while done < 10:
        assert running.scheduler.next_pack("more") is None
        done += len(packs[0].members)
        running.finish(packs.pop(0))
    assert len(running.begin("more").members) == 1, "an idle worker gets a trial once ten have a result"


@pytest.mark.parametrize("pruner", ["asha", "hyperband", "median", ASHA])
def test_paired_trials_are_trained_to_the_end_and_count_at_no_rung(store: Store, pruner: Any) -> None:
    running = Running(store, **study(trials=27 + 8, epochs=9, pruner=pruner))
    running.train_all(value=lambda trial, epoch: int(trial.rpartition(".")[2]) * 7 % 27 / 27 + epoch / 100)
    spec = running.study.spec
    for arm in ("adamp", "adamw"):
        trials = [t for t in running.trials() if t.arm == arm]
        paired = [t for t in trials if t.pair_index is not None]
        others = [t for t in trials if t.pair_index is None]
        assert {(t.state.value, t.epochs_done, t.bracket) for t in paired} == {("completed", 9, 0)}
        assert [t.bracket for t in others] == [bracket_of(spec.pruner, 9, number=n) for n in range(27)]
        total, planned = sum(t.epochs_done for t in others), planned_epochs(spec.pruner, 9, trials=27)
        assert total <= planned if pruner == "median" else total == planned


@pytest.mark.parametrize(
    ("pruner", "sampler", "at"),
    [
        ("asha", "tpe", "best"),
        ("hyperband", "random", "last"),
        ("none", "gp", "best"),
        ("median", "qmc", "last"),
    ],
)
def test_a_run_loaded_at_any_moment_continues_as_before(
    store: Store, pruner: str, sampler: str, at: str
) -> None:
    limits = {"max_concurrent_packs": 1, "max_pack_size": 3}
    fields = study(
        trials=16,
        epochs=4,
        replicates=2,
        pruner=pruner,
        sampler=sampler,
        objective={"at": at},
        resources=limits,
        confirmation={"seeds": 2},
    )
    whole, cut = Running(store, **fields), Running(store, **fields)
    whole.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch), at_once=1)
    cut.train_reloading(value=lambda trial, epoch: by_lr(store, trial, epoch))
    for trials in (Running.trials, Running.confirmations):
        seen = [
            [
                (t.arm, t.number, t.pair_index, t.parameters, t.seed, t.state, t.value, t.bracket, t.confirms)
                for t in trials(running)
            ]
            for running in (whole, cut)
        ]
        assert seen[0] == seen[1]


def test_retries_and_lost_checkpoints_keep_pairs_and_seeds(store: Store) -> None:
    expected = pairs(trained(store, pruner=ASHA, epochs=4).trials(), "adamp")
    running = Running(store, **study(pruner=ASHA, epochs=4))
    lost, broken = running.begin("a"), running.begin("b")
    running.report(lost, epoch=1, value=lambda _trial, _epoch: 0.5)
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    running.report(broken, epoch=1, value=lambda _trial, _epoch: 0.5, with_checkpoints=True)
    running.recorder.ended("b", restart_reason="no checkpoint", unusable=[m.trial_id for m in broken.members])
    running.reload()
    running.train_all(value=lambda _trial, _epoch: 0.5)
    for arm in ("adamp", "adamw"):
        assert pairs(running.trials(), arm) == expected
    assert {t.epochs_done for t in running.trials() if t.pair_index is not None} == {4}


def test_extensions_keep_pairs_and_give_them_to_new_arms_and_replicates(store: Store) -> None:
    running = trained(store)
    running.close()
    before = running.trials()

    def value(trial: str, epoch: int) -> float | None:
        return by_lr(store, trial, epoch)

    running.extend(trials_per_arm=16)
    running.train_all(value=value)
    longer = running.trials()
    assert [t for t in longer if t.number < 12] == before
    assert {t.pair_index for t in longer if t.number >= 12} == {None}, "the sampler gets further trials"
    running.close()
    running.extend(replicates=2)
    running.train_all(value=value)
    running.close()
    running.extend(arms=[WHOLE_ADAMW])
    running.train_all(value=value)
    found = running.trials()
    assert Counter((t.arm, t.replicate) for t in found if t.pair_index is not None) == {
        (arm, replicate): 8 for arm in ("adamp", "adamw", "first") for replicate in range(2)
    }
    expected = pairs(found, "adamp")
    assert pairs(found, "adamw") == pairs(found, "first") == expected
    again = trained(store, replicates=2, arms=["adamp", WHOLE_ADAMW])
    names = ("lr", "beta1", "weight_decay")
    assert pairs(again.trials(), "first", names=names) == pairs(found, "first", names=names)


def test_a_study_that_was_stopped_among_its_pairs_continues_with_the_others_when_it_is_extended(
    store: Store,
) -> None:
    limits = {"max_pack_size": 3}
    running = Running(store, slots=1, arms=["adamp"], resources=limits, **study())
    running.finish(running.begin("a"))
    running.writer.close(StudyMove.FINISH)
    running.extend(seeds=1)
    running.train_all(value=lambda _trial, _epoch: 0.5)
    assert [t.pair_index for t in running.trials()] == [None, 0, 1]
    running.close()
    running.extend(trials_per_arm=12)
    running.train_all(value=lambda trial, epoch: by_lr(store, trial, epoch))
    assert [t.pair_index for t in running.trials()] == [None, *range(8), None, None, None]
    assert pairs(running.trials(), "adamp") == pairs(trained(store, arms=["adamp"]).trials(), "adamp")


def test_the_words_of_a_study_that_was_stopped_among_its_pairs_stay_when_the_others_are_trained(
    store: Store,
) -> None:
    running = Running(store, resources={"max_pack_size": 4}, **study(trials=20, paired=16))
    while sum(t.pair_index is not None for t in running.trials()) < 24:
        running.finish(running.begin(f"p{len(running.trials())}"), value=value_of(store))
    running.writer.close(StudyMove.FINISH)
    stopped = analyse(store.study_record(running.study.id)).by_budget
    assert stopped is not None
    assert 8 <= stopped.n < 16
    running.extend(trials_per_arm=20)
    judged = analyse(store.study_record(running.study.id)).by_budget
    running.train_all(value=value_of(store))
    running.close()
    assert sum(t.pair_index is not None for t in running.trials()) == 32
    later = analyse(store.study_record(running.study.id)).by_budget
    assert stopped == judged == later
    running.extend(arms=["stepper"], seeds=1)
    waiting = analyse(store.study_record(running.study.id)).by_budget
    assert waiting is not None
    assert waiting.state == "in progress"
    running.train_all(value=value_of(store))
    running.close()
    with_another = analyse(store.study_record(running.study.id)).by_budget
    assert with_another is not None
    assert with_another.pairs[0].n == stopped.n
    again = parse_spec(to_copy(running.study.spec))
    assert again.search.stopped_at == ()


def test_a_study_without_pairs_has_one_seed_for_all_trials(store: Store) -> None:
    running = trained(store, paired=0)
    assert {t.pair_index for t in running.trials()} == {None}
    assert {t.seed for t in running.trials()} == {trial_seed(0, 0)}


@pytest.mark.parametrize("is_for_own_seeds", [False, True])
def test_a_width_that_pairs_measured_is_used_for_the_sampler_unless_only_their_seeds_prevent_stacking(
    store: Store, is_for_own_seeds: bool
) -> None:
    running = Running(store, slots=1, arms=["adamp"], **study(trials=64, paired=8, sampler="tpe"))
    pack = running.begin("a")
    assert len({member.seed for member in pack.members}) == len(pack.members)
    fit = StackWidth(
        workload="digits-mlp",
        optimizer="adamp",
        batch_size=32,
        device="cpu",
        width=1 if is_for_own_seeds else 6,
        is_for_own_seeds=is_for_own_seeds,
    )
    running.report(pack, epoch=1, value=lambda _trial, _epoch: 0.5, fit=fit)
    running.recorder.ended("a", worker_failure=WorkerFailure("its worker was lost"))
    packs = running.train_all(value=lambda _trial, _epoch: 0.5, at_once=1)
    shared = [p for p in packs if len(p.members) > 1 and len({m.seed for m in p.members}) == 1]
    own = [p for p in packs if len({m.seed for m in p.members}) > 1]
    assert {p.width for p in shared} == ({None} if is_for_own_seeds else {6})
    assert not own if is_for_own_seeds else {p.width for p in own} == {6}
    assert len(running.writer.stack_widths("digits-mlp")) == (0 if is_for_own_seeds else 1)
