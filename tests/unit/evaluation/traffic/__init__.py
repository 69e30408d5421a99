"""Tests of reports on traffic."""
