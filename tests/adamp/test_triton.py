"""The GPU path without a GPU: its kernels run in Triton's interpreter and compile for real cards."""

import importlib
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch

from adamp._triton_plan import CHUNK, TritonPlan

__all__: list[str] = []

HERE = Path(__file__).parent
POINTERS = {
    "table": "*i64",
    "grads": "*i64",
    "items": "*i32",
    "chunks": "*i32",
    "hyper": "*fp64",
    "views": "*i32",
}
NUMBERS = {"first": "i32", "slots": "i32"}
OPTIONAL = {"lr": "*fp32", "grad_scale": "*fp32", "found_inf": "*fp32"}
DTYPES = {
    "fp32 throughout": ("fp32",) * 3,
    "bf16 with wide moments": ("bf16", "bf16", "fp32"),
    "fp16": ("fp16",) * 3,
    "fp64": ("fp64",) * 3,
}


# Takes 40 s on an otherwise idle core, because the interpreter runs each lane's arithmetic in Python.
@pytest.mark.timeout(900)
def test_the_kernels_pass_their_claims_in_the_triton_interpreter() -> None:
    """Run in a separate process, because Triton chooses interpreter or compiler when a kernel is defined."""
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        str(HERE / "triton_claims.py"),
    ]
    done = subprocess.run(
        command,
        env={**os.environ, "TRITON_INTERPRET": "1"},
        cwd=HERE.parents[1],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]


def test_the_package_imports_without_triton() -> None:
    program = (
        "import sys; sys.modules['triton'] = None; import adamp, adamp._triton; print(adamp.AdamP.__name__)"
    )
    assert (
        subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout
        == "AdamP\n"
    )


def tiles() -> list[tuple[int, int]]:
    """Return every tile shape that a plan uses for rows of 1 to 10,000 elements."""
    weights = [torch.empty((2, length)) for length in (1, 64, 65, 640, 641, 4096, 4097, 10_000)]
    plan = TritonPlan(weights, weights, weights, (), vector=4, wide=torch.float32)
    return sorted({(launch.rows, launch.columns) for launch in plan.launches})


def compiled(
    name: str,
    dtypes: Sequence[str],
    constants: dict[str, Any],
    *,
    capability: int,
    warps: int,
    with_amp: bool,
    scratch: Path,
) -> tuple[str, str]:
    """Return a kernel's PTX, and cuobjdump's report of the registers and memory its machine code uses."""
    triton: Any = importlib.import_module("triton")
    kernel: Any = getattr(importlib.import_module("adamp._triton_kernels"), name)
    target: Any = importlib.import_module("triton.backends.compiler").GPUTarget("cuda", capability, 32)
    wide = "fp64" if "fp64" in dtypes else "fp32"
    types = dict(zip("WGM", (getattr(triton.language, dtype_name(dtype)) for dtype in dtypes), strict=True))
    constants = {
        key: value
        for key, value in {**types, "ACC": getattr(triton.language, dtype_name(wide)), **constants}.items()
        if key in kernel.arg_names
    }
    given = {
        **POINTERS,
        "sums": f"*{wide}",
        "scalars": f"*{wide}",
        **NUMBERS,
        **(OPTIONAL if with_amp else {}),
    }
    signature = {arg: given.get(arg, "constexpr") for arg in kernel.arg_names}
    constants |= dict.fromkeys([arg for arg in kernel.arg_names if arg in OPTIONAL and arg not in given])
    aligned = {
        (place,): [["tt.divisibility", 16]]
        for place, arg in enumerate(kernel.arg_names)
        if signature[arg].startswith("*")
    }
    source = triton.compiler.ASTSource(fn=kernel, signature=signature, constexprs=constants, attrs=aligned)
    built = triton.compile(source, target=target, options={"num_warps": warps, "enable_fp_fusion": True})
    machine_code = scratch / "kernel.cubin"
    machine_code.write_bytes(built.asm["cubin"])
    reader = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    usage = subprocess.run(
        [str(reader), "-res-usage", str(machine_code)], capture_output=True, text=True, check=True
    ).stdout
    return built.asm["ptx"], usage


def dtype_name(short: str) -> str:
    return {"fp64": "float64", "fp32": "float32", "bf16": "bfloat16", "fp16": "float16"}[short]


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder that is also Triton's cache, so that every kernel is compiled again."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("capability", [80, 90])
def test_every_tile_compiles_without_register_spills_and_with_16_byte_loads(
    capability: int, scratch: Path
) -> None:
    assert tiles() == [(1, 2048), (4, 512), (16, 128), (64, 16)]
    for rows, columns in tiles():
        shape = {
            "ROWS": rows,
            "COLUMNS": columns,
            "VECTOR": 4,
            "ADAM": True,
            "NESTEROV": True,
            "MAXIMIZE": False,
            "PROJECTS": True,
        }
        for name in ("sum_rows", "update"):
            ptx, usage = compiled(
                name,
                DTYPES["fp32 throughout"],
                shape,
                capability=capability,
                warps=rows * columns // 256,
                with_amp=False,
                scratch=scratch,
            )
            assert re.search(r"ld\.global\S*\.v4\.b32", ptx)
            assert "STACK:0 " in usage, (name, shape, usage)


@pytest.mark.parametrize("dtypes", DTYPES)
@pytest.mark.parametrize("is_adam", [True, False])
def test_every_kernel_compiles_for_every_dtype(dtypes: str, is_adam: bool, scratch: Path) -> None:
    shape = {
        "ROWS": 4,
        "COLUMNS": 512,
        "VECTOR": 2,
        "ADAM": is_adam,
        "NESTEROV": True,
        "MAXIMIZE": True,
        "PROJECTS": True,
        "CHUNK": CHUNK,
        "BLOCK": 2048,
    }
    for name, warps in (("sum_rows", 8), ("decide", 16), ("update", 8), ("settle", 16), ("apply", 8)):
        ptx, usage = compiled(
            name, DTYPES[dtypes], shape, capability=90, warps=warps, with_amp=True, scratch=scratch
        )
        # The order of atomics, and so the last bits, would depend on the GPU's scheduling.
        assert not re.search(r"\b(atom|red)\.", ptx)
        assert "STACK:0 " in usage or dtypes == "fp64", (name, usage)
