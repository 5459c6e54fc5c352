"""Processes that are forked draw random ids of their own from Ray."""

import os
import subprocess
import sys
import time

import pytest

from workers.run_server import RunServer

__all__: list[str] = []


@pytest.mark.parametrize("context", ["random_ids.drawing_none()", "contextlib.nullcontext()"])
def test_ids_are_shared_only_if_one_was_drawn_before_the_fork(context: str) -> None:
    code = f"import contextlib\nfrom workers import random_ids\nwith {context}: import ray.tune\n"
    code += "print(random_ids.are_shared())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == [str("null" in context)], done.stdout


def test_the_server_of_runs_finds_that_its_runs_draw_their_own() -> None:
    server = RunServer(os.environ)
    try:
        while not server.is_ready() and not server.is_late(60):
            time.sleep(0.05)
        assert (server.is_ready(), server.is_unfit) == (True, False)
    finally:
        server.end()
