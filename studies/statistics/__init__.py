"""The statistics of studies: pure functions that take arrays and return values.

This package uses no SQL and no I/O, and it renders no pages.
"""

__all__: list[str] = []
