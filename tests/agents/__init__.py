"""Coding agents as clients: ``python -m tests.agents.run`` and ``tests.agents.routing`` run them."""
