"""The REST API, dashboard, command line and Python client.

The package imports no torch and no Ray, and has no SQL of its own.
"""

__all__: list[str] = []

import sys

# `python -m` puts the working directory first on the import path, where its files could replace any module.
if sys.argv[0] == "-m" and not sys.flags.safe_path:
    del sys.path[0]
