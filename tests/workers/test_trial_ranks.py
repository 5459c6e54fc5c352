"""What passes between a pack's actor and the processes of its trial."""

import asyncio
from types import SimpleNamespace
from typing import Any

import pytest
from plane_scripts import pack_of

from workers import trial_ranks
from workers.pack_protocol import EpochReport
from workers.trial_ranks import Mailbox, TrialRanks

__all__: list[str] = []


class _OneProcess:
    """Stands for Ray and a process that puts its last report, and ends, just after each look for reports."""

    def __init__(self, report: EpochReport) -> None:
        self._mailbox, self._report = Mailbox(), report.model_dump_json()

    def remote(self, **_: object) -> Any:
        calls = {
            name: SimpleNamespace(remote=getattr(self._mailbox, name)) for name in ("take", "rest", "leave")
        }
        return lambda _: SimpleNamespace(remote=lambda: SimpleNamespace(**calls))

    def get(self, call: Any) -> Any:
        return asyncio.run(call) if asyncio.iscoroutine(call) else call

    def wait(self, futures: list[Any], **_: object) -> tuple[list[Any], list[Any]]:
        if self._report:
            asyncio.run(self._mailbox.put(self._report))
            self._report = ""
        return futures, []

    def kill(self, _: object) -> None:
        return


def test_a_report_that_comes_just_before_the_processes_end_is_not_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent = EpochReport(pack_id="pack", epoch=4, members=())
    monkeypatch.setattr(trial_ranks, "_ray", _OneProcess(sent))
    monkeypatch.setattr(trial_ranks, "_POLL_S", 0.01)
    ranks = TrialRanks(processes=1, cpus=1, gpus=0, packages=(), versions="{}")
    ranks._group = SimpleNamespace(execute_async=lambda *_: [None])
    assert list(ranks.train(pack_of(), lambda *_: None, is_leaving=lambda: False)) == [sent]
