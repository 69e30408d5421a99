"""Decides which model answers, by plain functions over frozen values."""
