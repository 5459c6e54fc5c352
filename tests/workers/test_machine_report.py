import os
import subprocess
import time

from workers.machine_report import measure_machine

__all__: list[str] = []


def test_workers_are_counted_by_the_titles_that_ray_gives_them() -> None:
    titles = ("ray::IDLE", "ray::Pack.train()", "ray::Pack", "ray::DashboardAgent", "python")
    processes = [subprocess.Popen(["bash", "-c", f"exec -a '{title}' sleep 30"]) for title in titles]
    try:
        deadline = time.monotonic() + 10
        while (view := measure_machine(os.getpid(), cpus=3)).workers + view.warm_workers < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    assert (view.cpus, view.workers, view.warm_workers) == (3, 2, 1)
    assert 0 <= view.cpu_share <= 1
    assert 0 < view.memory_used_bytes < view.memory_bytes
    assert measure_machine(os.getpid(), cpus=None).workers == 0
