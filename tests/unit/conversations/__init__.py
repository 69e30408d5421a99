"""The stores of earlier answers."""
