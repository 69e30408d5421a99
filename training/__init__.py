"""Trains the weights of the embedded engine; README.md is the card of the model."""
