"""Fused forms of what :mod:`skipln_fairseq.nn` computes: each has a reference in torch's operations.

Nothing here knows a module's place in a model; what does not fit a kernel takes the reference.
"""
