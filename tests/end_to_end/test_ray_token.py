"""A dispatcher that joins a Ray which requires a token."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from dispatcher_process import DispatcherProcess

__all__: list[str] = []


@pytest.mark.ray
@pytest.mark.slow
@pytest.mark.parametrize(
    ("mode", "token", "named"),
    [("disabled", None, "RAY_AUTH_MODE=token"), ("token", "f" * 64, "RAY_AUTH_TOKEN_PATH")],
)
def test_a_dispatcher_with_another_token_mode_or_token_names_the_variable_to_set(
    dispatcher: DispatcherProcess, tmp_path: Path, mode: str, token: str | None, named: str
) -> None:
    address = re.findall(r"Ray at (\S+)", dispatcher.log)[-1]
    (tmp_path / "token").write_text(token or "")
    environment = {**os.environ, "TANGENT_HOME": str(tmp_path), "RAY_AUTH_MODE": mode}
    if token is not None:
        environment["RAY_AUTH_TOKEN_PATH"] = str(tmp_path / "token")
    done = subprocess.run(
        [sys.executable, "-m", "workers", "--ray", address],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    last = done.stderr.splitlines()[-1]
    assert (done.returncode, last.startswith(f"error: cannot join the Ray cluster at {address}: ")) == (
        1,
        True,
    )
    assert named in last
