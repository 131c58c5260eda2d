"""How fast, how soon, how small: run by `python -m pytest tests/benchmarks -m benchmark -s` on a quiet machine."""
