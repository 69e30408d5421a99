"""Engines of deployments, without their libraries."""
