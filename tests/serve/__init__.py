"""Tests of the whole graph on one Serve cluster, from outside."""
