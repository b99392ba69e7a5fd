"""Checks on a GPU, and without one."""
