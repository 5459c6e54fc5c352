"""The reference side of the step timings: PyPI's `adamp`, in a separate environment and process.

It needs its own environment because it has the same name as our package. Parent and child take turns over
pipes, with one JSON object per line; each is idle while the other steps. The child runs this file with the
other environment's interpreter.
"""

__all__ = ["ReferenceProcess", "ReferenceSide", "main", "make_reference"]

import json
import os
import subprocess
import sys
import sysconfig
import venv
from dataclasses import asdict
from pathlib import Path
from typing import Any

from step_sides import LocalSide, Setting, Tensors, make_optimizer

_VERSION = "0.3.0"


def make_reference(folder: Path) -> Path:
    """Create an environment in `folder` with PyPI's `adamp` and this interpreter's torch.

    Return its interpreter.
    """
    venv.create(folder, with_pip=True)
    python = folder / "bin" / "python"
    purelib = Path(
        subprocess.run(
            [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"],
            check=True,
            capture_output=True,
            text=True,
        ).stdout.strip()
    )
    subprocess.run([python, "-m", "pip", "install", "-q", "--no-deps", f"adamp=={_VERSION}"], check=True)
    # Add this interpreter's packages after the environment's own, so that `adamp` is PyPI's while both sides
    # use the same torch.
    (purelib / "shared-torch.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return python


class ReferenceProcess:
    """A child process that steps the reference's optimizers on request.

    Attributes:
        checksum: checksum of its tensors; see `Tensors.checksum`.
    """

    def __init__(self, setting: Setting) -> None:
        assert setting.reference_python is not None
        # Remove PYTHONPATH, which may point to our own package.
        environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        self._child = subprocess.Popen(
            [setting.reference_python, __file__, json.dumps(asdict(setting))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        self.checksum = float(self._next()["checksum"])

    def start(self, side: str) -> float:
        """Return the seconds of the first step of one of `SIDES`, which is then ready for its turns.

        Raises:
            ImportError: the child's interpreter lacks PyPI's `adamp`.
        """
        answer = self._ask({"start": side})
        if "missing" in answer:
            raise ImportError(answer["missing"])
        return float(answer["first_s"])

    def turn(self, side: str) -> float:
        """Return the milliseconds of one step, as `LocalSide.turn` does."""
        return float(self._ask({"turn": side})["ms"])

    def close(self) -> None:
        """End the child."""
        assert self._child.stdin is not None
        self._child.stdin.close()
        self._child.wait()

    def _ask(self, question: dict[str, str]) -> dict[str, Any]:
        assert self._child.stdin is not None
        self._child.stdin.write(json.dumps(question) + "\n")
        self._child.stdin.flush()
        return self._next()

    def _next(self) -> dict[str, Any]:
        assert self._child.stdout is not None
        line = self._child.stdout.readline()
        if not line:
            sys.exit(
                f"The reference process ended with code {self._child.wait()}; its error is printed above."
            )
        return json.loads(line)


class ReferenceSide:
    """One of the child's optimizers, timed in the same way as a `LocalSide`."""

    def __init__(self, process: ReferenceProcess, side: str) -> None:
        self._process, self._side = process, side
        self.first_s = process.start(side)

    def turn(self) -> float:
        """Return the milliseconds of one step."""
        return self._process.turn(self._side)


def main() -> None:
    """Answer the parent until it closes the pipe."""
    import torch

    setting = Setting(**json.loads(sys.argv[1]))
    torch.set_num_threads(setting.threads)
    tensors = Tensors(setting)
    _say({"checksum": tensors.checksum})
    sides: dict[str, LocalSide] = {}
    for line in sys.stdin:
        match json.loads(line):
            case {"start": str(side)}:
                try:
                    sides[side] = LocalSide(make_optimizer(side, tensors), tensors, setting)
                except ImportError as error:
                    _say({"missing": str(error)})
                    continue
                _say({"first_s": sides[side].first_s})
            case {"turn": str(side)}:
                _say({"ms": sides[side].turn()})
            case question:
                raise ValueError(f"the reference's process expects a start or a turn, got {question!r}")


def _say(answer: dict[str, Any]) -> None:
    print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main()
