"""How a study is run: the dispatcher, Ray Tune, the training loop, optimizers and workloads."""

__all__: list[str] = []

import sys

# `python -m` puts the working directory first on the import path, where its files could replace any module.
if sys.argv[0] == "-m" and not sys.flags.safe_path:
    del sys.path[0]
