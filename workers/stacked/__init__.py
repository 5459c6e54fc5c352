"""Stacked training: K members of a pack as one model whose tensors have a leading axis of K members.

Parameters, buffers and optimizer state are stacked. For small models one tensor operation over K members
costs far less than K operations. A member's numbers equal those of training it alone, to rounding: the other
members and their number affect only the order of sums.
"""

__all__: list[str] = []
