"""Benchmarks: what state tracking and the server cost, as ratios to a calibration loop. `make bench`."""
