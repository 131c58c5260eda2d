"""Real daemons, real servers, real faults: nothing is lost and nothing counted twice.

A short pass of every fault is part of the test command; `python -m pytest tests/faults -m faults -s` runs them by the
hundred and prints a table.
"""
