"""Deciding which model answers: plain functions over frozen values."""
