"""Coding agents as clients: ``python -m tests.agents.run`` installs them and runs one task each."""
