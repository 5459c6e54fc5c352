"""The load generator measures latency correctly, and the load benchmarks still run."""

import asyncio
import contextlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.load_traffic import Request, Traffic

__all__: list[str] = []

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def test_a_stall_adds_to_the_latency_of_every_request_due_during_it() -> None:
    may_answer = asyncio.Event()
    asked: list[bytes] = []
    gone = asyncio.Semaphore(0)

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while head := await reader.readuntil(b"\r\n\r\n"):
                asked.append(head)
                await may_answer.wait()
                writer.write(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok")
        writer.close()
        await writer.wait_closed()
        gone.release()

    async def main() -> Traffic:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        traffic = Traffic([port], lambda: Request("any", "/", "secret"), rate=100, seed=0)
        running = asyncio.create_task(traffic.run(0.5))
        await asyncio.sleep(0.6)
        may_answer.set()
        await running
        for _ in asked:
            await gone.acquire()
        server.close()
        await server.wait_closed()
        return traffic

    traffic = asyncio.run(main())
    assert len(traffic.answers) == len(asked) > 30
    assert all(answer.status == 200 and answer.size == 2 for answer in traffic.answers)
    # Every request waited from its due time to the end of the stall.
    assert all(answer.latency_s >= 0.59 - answer.due_s for answer in traffic.answers)
    assert b"Authorization: Bearer secret" in asked[0]


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_load_benchmark_runs_against_a_real_service(tmp_path: Path) -> None:
    tmp_path.chmod(0o755)
    short = [
        "--studies",
        "12",
        "--large",
        "0",
        "--giant-of",
        "0",
        "--seconds",
        "5",
        "--warm-s",
        "1",
        "--rate",
        "10",
        "--readers",
        "2",
        "--runs",
        "1",
    ]
    subprocess.run(
        [sys.executable, BENCHMARKS / "load.py", *short, "--json", tmp_path / "found.json"],
        check=True,
        timeout=500,
    )
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["faults"] == []
    assert found["stream_faults"] == found["stream_gaps"] == 0
    assert found["stream_events"] > 0
    assert found["contents"]["studies"] >= 12
    assert len(found["answers"]) > 20


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_the_load_benchmark_runs_while_a_study_trains(tmp_path: Path) -> None:
    short = ["--training", "--seconds", "5", "--warm-s", "5", "--rate", "5", "--readers", "2"]
    subprocess.run(
        [sys.executable, BENCHMARKS / "load.py", *short, "--json", tmp_path / "found.json"],
        check=True,
        timeout=500,
    )
    found = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))
    assert found["faults"] == []
    assert found["stream_faults"] == found["stream_gaps"] == 0
    assert found["trials_finished"] > 0
    assert min(found["cores"].values()) > 0
    assert len(found["answers"]) > 10


@pytest.mark.postgres
@pytest.mark.slow
@pytest.mark.timeout(600)
def test_reports_of_simulated_workers_are_recorded(tmp_path: Path) -> None:
    short = ["--parts", "rates", "--workers", "4", "--sizes", "2", "--seconds", "3"]
    subprocess.run(
        [sys.executable, BENCHMARKS / "reports.py", *short, "--json", tmp_path / "found.json"],
        check=True,
        timeout=500,
    )
    (one,) = json.loads((tmp_path / "found.json").read_text(encoding="utf-8"))["rates"]
    assert one["reports_per_s"] == pytest.approx(4, rel=0.5)
    assert one["members_per_s"] == pytest.approx(2 * one["reports_per_s"], rel=0.01)
