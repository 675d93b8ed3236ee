"""Benchmarks, run by hand: each measures against the peer or the limit in the same run and prints a ratio."""
