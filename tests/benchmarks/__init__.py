"""Benchmarks: ratios within one run, medians of several rounds. They are no tests."""
