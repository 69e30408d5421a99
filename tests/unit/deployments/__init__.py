"""Tests of the code in deployments/ that does not need Ray."""
