"""Tests of the library of the benchmarks."""
