"""Training loops of users: the trial that a loop gets, and the engine that runs it."""

__all__: list[str] = []
