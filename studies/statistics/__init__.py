"""What numbers of studies mean: pure functions that take arrays and return values.

No SQL, no I/O, no pages.
"""

__all__: list[str] = []
