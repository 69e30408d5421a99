"""Reads the logs of a gateway, adds them up, and reports them."""
