"""An environment with torchvision, which does not import beside the CPU build of torch that the tests use."""

import fcntl
import os
import subprocess
import sys
import sysconfig
from pathlib import Path

__all__ = ["create"]

# torchvision's operators are linked to the CUDA build of torch, which runs on a CPU too.
PACKAGES = ("torch==2.14.1", "torchvision==0.29.1", "datasets==5.2.0")


def create() -> Path:
    """Return the environment's interpreter; it also sees the packages of this environment.

    The environment is created once, in the user's cache: 5.5 GB, a few minutes.

    Raises:
        subprocess.CalledProcessError: pip cannot install the packages.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "tangent-tests"
    folder = cache / "-".join(PACKAGES)
    folder.mkdir(parents=True, exist_ok=True)
    python, done = folder / "bin" / "python", folder / "done"
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not done.exists():
            subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
            subprocess.run([str(python), "-m", "pip", "install", "-q", *PACKAGES], check=True)
            done.touch()
    [packages] = folder.glob("lib/python*/site-packages")
    # Its own packages come first.
    (packages / "others.pth").write_text(f"import site; site.addsitedir({sysconfig.get_path('purelib')!r})\n")
    return python
