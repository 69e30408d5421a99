"""What benchmarks conclude from what they saw."""
