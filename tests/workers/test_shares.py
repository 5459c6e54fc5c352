"""Several runs on one machine: each gets its fair share, and small studies end long before large ones."""

from typing import Any

from running import Running

from studies.store import Store
from studies.store.tables import study
from workers.pack_protocol import Pack
from workers.scheduler import RunMode

__all__: list[str] = []

SLOTS = 4
MACHINES = "10.0.0.1:6379"


class Machine:
    """A machine with a fixed number of slots; all packs take equally long."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.runs: list[Running] = []
        self.out: dict[int, list[Pack]] = {}
        self.rounds = 0

    def add(self, owner: str | None, trials: int, **resources: Any) -> Running:
        """Start an owner's study of one arm, with one trial per pack."""
        arm = {"arms": ["adamp"], "budget": {"trials_per_arm": trials, "epochs": 1}}
        run = Running(self.store, slots=1, **arm, resources={"max_pack_size": 1, **resources})
        with self.store._database.write() as connection:
            connection.execute(study.update().where(study.c.id == run.study.id).values(owner=owner))
        self.out[len(self.runs)] = []
        self.runs.append(run)
        run.writer.renew(wanted=run.scheduler.wanted, machines=MACHINES)
        return run

    def _close(self, run: Running) -> None:
        if self.store.study(run.study.id).ended_at is None:
            run.close()

    def packs_of(self, run: Running) -> int:
        """Return how many packs of a run are training."""
        return len(self.out[self.runs.index(run)])

    def advance(self) -> None:
        """Finish all packs in flight, and dispatch the next ones."""
        self.rounds += 1
        for n, run in enumerate(self.runs):
            for pack in self.out[n]:
                run.finish(pack)
            self.out[n] = []
        for n, run in enumerate(self.runs):
            if run.scheduler.is_finished:
                self._close(run)
                continue
            run.slots, _ = run.writer.pack_limit(slots=SLOTS)
            run.mode = RunMode(is_sharing=run.slots < SLOTS)
            room = SLOTS - sum(map(len, self.out.values()))
            while len(self.out[n]) < min(run.slots, room + len(self.out[n])) and (
                pack := run.scheduler.next_pack(f"{n}-{self.rounds}-{len(self.out[n])}")
            ):
                run.recorder.started(pack.pack_id)
                self.out[n].append(pack)
                room -= 1
            run.writer.renew(wanted=run.scheduler.wanted, machines=MACHINES)


def test_a_small_study_ends_long_before_an_earlier_large_one(store: Store) -> None:
    machine = Machine(store)
    large = machine.add("ada", 60)
    machine.advance()
    assert machine.packs_of(large) == SLOTS, "a study without competition uses all slots"
    small = machine.add("bob", 6)
    while not small.scheduler.is_finished:
        machine.advance()
    assert machine.rounds <= 6, "six packs, two at a time"
    assert not large.scheduler.is_finished
    machine.advance()
    machine.advance()
    assert machine.packs_of(large) == SLOTS, "the large study gets all slots back"
    while not large.scheduler.is_finished:
        machine.advance()
    assert machine.rounds <= (60 + 6) / SLOTS + 4, "a slot was idle for long"


def test_slots_that_one_study_cannot_use_go_to_another(store: Store) -> None:
    machine = Machine(store)
    narrow = machine.add("ada", 12, max_concurrent_packs=1)
    wide = machine.add("bob", 30)
    for _ in range(4):
        machine.advance()
    assert (machine.packs_of(narrow), machine.packs_of(wide)) == (1, 3)


def test_owners_share_equally_however_many_studies_one_submits(store: Store) -> None:
    machine = Machine(store)
    many = [machine.add("ada", 12) for _ in range(2)]
    one = machine.add("bob", 12)
    while not one.scheduler.is_finished:
        machine.advance()
    done = [sum(state == "completed" for state in run.states()) for run in many]
    assert machine.rounds <= 8
    assert 10 <= sum(done) <= 16, "ada's two studies together progress about as far as bob's"


def test_a_scheduler_counts_the_packs_that_could_train_at_once(store: Store) -> None:
    run = Running(
        store,
        slots=2,
        arms=["adamp"],
        budget={"trials_per_arm": 5, "epochs": 1},
        resources={"max_pack_size": 1},
    )
    first, second = run.begin("a"), run.begin("b")
    assert run.scheduler.wanted == 5
    run.mode = RunMode(is_paused=True)
    assert run.scheduler.next_pack("c") is None
    assert run.scheduler.wanted == 2, "a drained scheduler starts no packs"
    run.mode = RunMode()
    for pack in (first, second):
        run.finish(pack)
    while (pack := run.scheduler.next_pack("d")) is not None:
        run.recorder.started("d")
        run.finish(pack)
    assert run.scheduler.wanted == 0
