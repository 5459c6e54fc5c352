"""What a worker prints is kept, up to a limit, whatever prints it and however the worker ends."""

import stat
import subprocess
import sys
from pathlib import Path

import psutil
import pytest
from dispatcher_process import until

from workers.output_files import PackOutput, read_outputs

__all__: list[str] = []


def program_with(folder: Path, program: str) -> list[str]:
    """Return the command of a program that captures its output."""
    text = (
        "import ctypes, os, subprocess, sys, time\n"
        "from workers.output_capture import OutputCapture\n"
        "output = OutputCapture()\n"
        f"def begin(pack): output.begin(folder={str(folder)!r}, pack_id=pack, attempts={{'s.sgd.0': 2}})\n"
    )
    return [sys.executable, "-c", text + program]


def run(folder: Path, program: str) -> int:
    """Run such a program and return its exit code."""
    return subprocess.run(program_with(folder, program), timeout=60, check=False).returncode


def outputs(folder: Path) -> list[PackOutput]:
    """Return the outputs in a folder once there is one."""
    return until(lambda: list(read_outputs(str(folder))), what="the output", timeout_s=10.0)


def test_output_of_python_of_c_code_and_of_other_processes_is_kept_for_the_pack_that_printed_it(
    tmp_path: Path,
) -> None:
    program = (
        "begin('first'); print('from Python'); sys.stderr.write('an error\\n')\n"
        "ctypes.CDLL(None).puts(b'from C'); ctypes.CDLL(None).fflush(None)\n"
        "subprocess.run(['echo', 'from a program']); output.end(); print('between')\n"
        "begin('second'); print('another'); output.end(); begin('silent'); output.end()"
    )
    assert run(tmp_path, program) == 0
    first, second = outputs(tmp_path)
    assert (first.pack_id, second.pack_id) == ("first", "second")
    assert set(first.text.splitlines()) == {"from Python", "an error", "from C", "from a program"}
    assert second.text == "another"
    assert first.attempts == {"s.sgd.0": 2}
    assert first.size == len(first.tail)
    assert [stat.S_IMODE(Path(each.url).stat().st_mode) for each in (first, second)] == [0o600, 0o600]


@pytest.mark.parametrize("end", ["os.kill(os.getpid(), 9)", "os.abort()", "ctypes.string_at(0)"])
def test_the_last_lines_of_a_worker_that_crashes_are_kept(tmp_path: Path, end: str) -> None:
    assert run(tmp_path, f"begin('crashed'); os.write(2, b'the last line\\n'); {end}") < 0
    (output,) = outputs(tmp_path)
    assert output.text == "the last line"


def test_output_is_written_while_the_pack_goes_on_and_each_version_replaces_the_one_before(
    tmp_path: Path,
) -> None:
    program = "begin('slow')\nfor i in range(45): print(i); time.sleep(0.1)\noutput.end()"
    process = subprocess.Popen(program_with(tmp_path, program))
    (early,) = outputs(tmp_path)
    assert early.text.splitlines()[0] == "0"
    assert process.wait(30) == 0
    (last,) = outputs(tmp_path)
    assert last.text.splitlines()[-1] == "44"
    assert last.url != early.url


def test_a_worker_that_prints_a_gigabyte_keeps_its_end_in_bounded_memory(tmp_path: Path) -> None:
    program = "begin('loud'); block = b'x' * 99 + b'\\n'; block *= 10_000\n"
    program += "for _ in range(1000): os.write(1, block)\nos.write(1, b'done\\n'); output.end()"
    process = subprocess.Popen(program_with(tmp_path, program))
    most = 0
    while process.poll() is None:
        for each in [psutil.Process(process.pid), *psutil.Process(process.pid).children()]:
            try:
                most = max(most, each.memory_info().rss)
            except psutil.Error:
                continue
    assert most < 100 * 2**20
    (output,) = outputs(tmp_path)
    assert output.size == 10**9 + 5
    assert len(output.tail) == 64 * 2**10
    assert output.text.endswith("\ndone")
    assert 7000 < len(output.text) <= 8192
    assert sum(file.stat().st_size for file in tmp_path.iterdir()) < 10**5


def test_another_keeper_takes_over_from_one_that_is_killed(tmp_path: Path) -> None:
    program = (
        "begin('pack'); os.kill(output.keeper_pid, 9); first = output.keeper_pid\n"
        "while output.keeper_pid == first: time.sleep(0.01)\n"
        "os.write(1, b'y' * 3_000_000); print('after'); output.end()"
    )
    assert run(tmp_path, program) == 0
    (output,) = outputs(tmp_path)
    assert output.text.endswith("yafter")


@pytest.mark.parametrize(
    ("printed", "shown"),
    [
        (b"epoch 1:  10%\repoch 1: 100%\ndone\r\n", "epoch 1: 100%\ndone"),
        (b"\x1b[31mred\x1b[0m \x1b]0;title\x07plain\x1b[2K", "red plain"),
        (b"a\x00b\x07c\xe2\x80\xaed \xff", "abcd \N{REPLACEMENT CHARACTER}"),
    ],
)
def test_text_is_shown_as_a_terminal_would_show_it_without_control_characters(
    printed: bytes, shown: str
) -> None:
    assert PackOutput("", "", {}, printed, len(printed)).text == shown


def test_a_cut_tail_begins_with_a_whole_line() -> None:
    assert PackOutput("", "", {}, b"tail of one\nwhole\n", 1000).text == "whole"
