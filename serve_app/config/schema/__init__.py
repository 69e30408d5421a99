"""The sections of gateway.yaml as pydantic models."""
