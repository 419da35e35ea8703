"""Figures, not tests: nothing here passes or fails. Each module is run by `python -m tests.bench.NAME`."""
