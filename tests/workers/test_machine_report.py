import os
import signal
import subprocess
import time

from workers.machine_report import measure_machine

__all__: list[str] = []


def test_workers_are_counted_by_the_titles_that_ray_gives_them() -> None:
    titles = ("ray::IDLE", "ray::Pack.train()", "ray::Pack", "ray::DashboardAgent", "python")
    # A parent of their own: other tests may have started workers below this process.
    each = " ".join(f"(exec -a '{title}' sleep 30) &" for title in titles)
    parent = subprocess.Popen(["bash", "-c", f"{each} wait"], start_new_session=True)
    try:
        deadline = time.monotonic() + 10
        while (view := measure_machine(parent.pid, cpus=3)).workers + view.warm_workers < 3:
            assert time.monotonic() < deadline
            time.sleep(0.02)
    finally:
        os.killpg(parent.pid, signal.SIGKILL)
        parent.wait()
    assert (view.cpus, view.workers, view.warm_workers) == (3, 2, 1)
    assert 0 <= view.cpu_share <= 1
    assert 0 < view.memory_used_bytes < view.memory_bytes
    assert measure_machine(os.getpid(), cpus=None).workers == 0
