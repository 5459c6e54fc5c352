"""What a study is: its spec, space, states, record and statistics. No torch, no Ray, no HTTP."""

__all__: list[str] = []
