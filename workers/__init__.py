"""How a study is run: the dispatcher, Ray Tune, the training loop, optimizers and workloads."""

__all__: list[str] = []
