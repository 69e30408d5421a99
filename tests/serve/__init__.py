"""The whole graph on one Serve cluster, seen from outside."""
