"""Tests of the scenarios of coding agents, without the agents."""
