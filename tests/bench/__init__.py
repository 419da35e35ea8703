"""Figures, not tests of the product: nothing here passes or fails by a clock.

`python -m tests.bench` measures the goals of docs/performance.md, each in turn with what a user would pick instead.
`python -m tests.bench.NAME` measures one thing by itself: fleet, journal, lint, tokens.
"""
