"""The engine `vllm`: a routing model in a process of its own."""
