"""Stacked training: the members of a pack as one model.

Its parameters, buffers and optimizer state carry a leading axis of K members.

K members side by side in one tensor operation cost far less than K operations where a model is small. What a
member computes is what it computes alone, to rounding: its neighbours and their number are no part of it,
though the order in which sums are taken may be.
"""

__all__: list[str] = []
