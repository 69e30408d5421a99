"""Tests without Ray and without sockets; the tree mirrors serve_app."""
