"""Benchmarks: ours side by side with what it is measured against, in one run. ``python -m benchmarks NAME``."""
