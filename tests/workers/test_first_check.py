"""Which results of a workload's check spare later studies the check."""

import pytest
from running import Running

from studies.store import Store
from studies.trials import CheckResult
from workers.first_check import FirstCheck
from workers.retry import DatabaseRetry

__all__: list[str] = []


def test_a_version_is_checked_until_a_check_finds_no_error(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    on_unfit_machine = CheckResult("data", "error", "FileNotFoundError: points.csv")
    repaired = CheckResult("data", "warning", "few examples")
    left = [(on_unfit_machine,), (repaired,)]
    monkeypatch.setattr(FirstCheck, "_check_on_worker", lambda _self, _is_interrupted: left.pop(0))
    running = Running(store)
    for expected in (on_unfit_machine, repaired, repaired):
        check = FirstCheck(
            running.study.spec,
            running.writer.plan(),
            writer=running.writer,
            retry=DatabaseRetry(1.0),
            packages=(),
            versions={},
        )
        check.carry_out(is_interrupted=lambda: False)
        assert store.study(running.study.id).check_results == (expected,)
        assert (check.failure is not None) is (expected is on_unfit_machine)
    assert not left
