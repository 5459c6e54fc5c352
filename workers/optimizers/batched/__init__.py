"""Batched forms of optimizers: one step for K members at once, each with its own hyperparameters."""

__all__: list[str] = []
