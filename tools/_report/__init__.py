"""Rooms behind `tools/kernel_report.py`: compile, read machine code, count, predict, judge, print."""
