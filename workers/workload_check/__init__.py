"""Checks of a workload that find its mistakes in seconds, before a study spends a budget on it."""

__all__ = ["check_workload"]

from workers.workload_check.checks import check_workload
