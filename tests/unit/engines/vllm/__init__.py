"""Tests of serve_app/engines/vllm."""
