"""The examples in `adamp`'s docstrings run unchanged."""

import doctest

import pytest

from adamp import SGDP, AdamP, decide

__all__: list[str] = []


@pytest.mark.parametrize("documented", [AdamP, SGDP, decide], ids=lambda documented: documented.__name__)
def test_the_example_runs(documented: object) -> None:
    tests = [
        test
        for test in doctest.DocTestFinder(recurse=False).find(
            documented, globs={"AdamP": AdamP, "SGDP": SGDP, "decide": decide}
        )
        if test.examples
    ]
    assert len(tests) == 1
    assert doctest.DocTestRunner().run(tests[0]).failed == 0
