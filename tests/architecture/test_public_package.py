"""The package `tangent` offers what users import, and is light."""

import subprocess
import sys

import tangent

__all__: list[str] = []


def test_every_public_name_can_be_loaded() -> None:
    for name in tangent.__all__:
        assert getattr(tangent, name) is not None
    assert set(tangent.__all__) <= set(dir(tangent))
    assert not hasattr(tangent, "Clients")


def test_importing_it_loads_none_of_its_parts() -> None:
    code = (
        "import sys, tangent; "
        "print(*{'adamp', 'ray', 'service', 'studies', 'torch', 'workers'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


def test_a_missing_extra_is_named() -> None:
    code = (
        "import sys; sys.modules['httpx'] = None\n"
        "import tangent\n"
        "try:\n    tangent.Client\nexcept ImportError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "tangent-studies[service]" in done.stdout
