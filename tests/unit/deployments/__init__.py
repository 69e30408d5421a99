"""Tests of what deployments/ holds beside Ray."""
