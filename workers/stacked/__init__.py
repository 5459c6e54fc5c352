"""Stacked training: K members of a pack as one model whose tensors have a leading axis of K members.

Parameters, buffers and optimizer state are stacked. For small models one tensor operation over K members
costs far less than K operations. A member's numbers are those of training it alone, to rounding: its
neighbours and their number have no influence, except on the order in which sums are taken.
"""

__all__: list[str] = []
