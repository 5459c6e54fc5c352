"""The environment of child processes: what dispatchers, runs and trials may read of this process's variables.

Dispatchers and runs use the database, so they get everything but the credentials of API clients. Ray and the
trials that it starts run code of workloads, so they get only the variables of a list, none of which holds a
credential of the service.
"""

__all__ = ["CREDENTIALS", "DEFAULT_VARIABLES", "passed_variables", "service_environment", "trial_environment"]

import os
import re
from collections.abc import Mapping
from fnmatch import fnmatchcase
from pathlib import Path

CREDENTIALS = frozenset(
    {
        "TANGENT_DATABASE_URL",
        "TANGENT_DATABASE_PASSWORD_FILE",
        "TANGENT_TOKEN",
        "TANGENT_TOKEN_FILE",
        "TANGENT_FIRST_TOKEN_FILE",
        "PGPASSWORD",
        "PGPASSFILE",
    }
)
"""Variables with a credential of the service, or the path of one; no trial receives them."""

DEFAULT_VARIABLES = (
    # The user, the system and the programs that a trial may start.
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TMPDIR", "TZ", "LANG", "LANGUAGE", "LC_*", "XDG_*"),
    *("CC", "CXX", "CPATH", "C_INCLUDE_PATH", "CPLUS_INCLUDE_PATH", "LIBRARY_PATH", "LD_LIBRARY_PATH"),
    *("LD_PRELOAD", "MALLOC_*"),
    # Python.
    *("PYTHONPATH", "PYTHONHOME", "PYTHONHASHSEED", "PYTHONUTF8", "PYTHONIOENCODING", "PYTHONUNBUFFERED"),
    *("PYTHONWARNINGS", "PYTHONDONTWRITEBYTECODE", "PYTHONPYCACHEPREFIX", "PYTHONNOUSERSITE"),
    *("PYTHONFAULTHANDLER", "VIRTUAL_ENV", "CONDA_PREFIX"),
    # Ray; its workers need the token of their own cluster.
    *("RAY_*", "TUNE_*"),
    # Threads, accelerators and compilers.
    *("OMP_*", "GOMP_*", "KMP_*", "MKL_*", "OPENBLAS_*", "BLIS_*", "NUMEXPR_*", "NUMBA_*", "TRITON_*"),
    *("CUDA_*", "CUBLAS_*", "CUDNN_*", "NVIDIA_*", "NCCL_*", "GLOO_*", "HIP_*", "ROCM_*", "HSA_*"),
    *("ROCR_VISIBLE_DEVICES", "PYTORCH_*", "TORCH_*", "TORCHINDUCTOR_*"),
    # The network.
    *("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy"),
    *("no_proxy", "SSL_CERT_FILE", "SSL_CERT_DIR", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"),
    # Data sets, and the storage of checkpoints: places and names of key files, but no keys.
    *("TANGENT_DATA", "TANGENT_PACKAGES", "HF_HOME", "HF_HUB_*", "HF_DATASETS_*", "TRANSFORMERS_*"),
    *("FSSPEC_CONFIG_DIR", "AWS_CONFIG_FILE", "AWS_SHARED_CREDENTIALS_FILE", "AWS_PROFILE", "AWS_REGION"),
    *("AWS_DEFAULT_REGION", "AWS_CA_BUNDLE", "AWS_ENDPOINT_URL*", "GOOGLE_APPLICATION_CREDENTIALS"),
)
"""Variables that trials receive by default; `*` stands for any end of a name."""

_PASSED = "TANGENT_TRIAL_ENVIRONMENT"
_OF_CLIENTS = frozenset({"TANGENT_TOKEN", "TANGENT_TOKEN_FILE", "TANGENT_FIRST_TOKEN_FILE", "TANGENT_URL"})
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\*?")


def passed_variables(text: str) -> tuple[str, ...]:
    """Return the names in a list such as `HF_TOKEN, WANDB_*`.

    Raises:
        ValueError: an entry is not a name, or names a credential of the service.
    """
    names = tuple(part.strip() for part in text.split(",") if part.strip())
    for name in names:
        if not _NAME.fullmatch(name):
            raise ValueError(
                f"expected names of variables separated by commas, such as HF_TOKEN,WANDB_*, got {name!r}"
            )
        if name in CREDENTIALS:
            raise ValueError(f"{name} holds a credential of the service, which no trial may receive")
    return names


def service_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of a dispatcher or a run, given that of the process that starts it."""
    return _without_start_folder(
        {name: value for name, value in environment.items() if name not in _OF_CLIENTS}
    )


def trial_environment(environment: Mapping[str, str]) -> dict[str, str]:
    """Return the environment of Ray and its workers, given that of the process that starts them.

    It holds the variables of `DEFAULT_VARIABLES` and those that `TANGENT_TRIAL_ENVIRONMENT` lists.
    """
    patterns = (*DEFAULT_VARIABLES, *passed_variables(environment.get(_PASSED, "")))
    return _without_start_folder(
        {
            name: value
            for name, value in environment.items()
            if name not in CREDENTIALS and any(fnmatchcase(name, pattern) for pattern in patterns)
        }
    )


def _without_start_folder(environment: dict[str, str]) -> dict[str, str]:
    """Drop relative folders from Python's import path: an empty entry means the working directory."""
    folders = environment.pop("PYTHONPATH", "").split(os.pathsep)
    absolute = [folder for folder in folders if Path(folder).is_absolute()]
    return {**environment, "PYTHONPATH": os.pathsep.join(absolute)} if absolute else environment
