"""What the benchmark scripts share: servers and clusters, load, figures and reports."""
