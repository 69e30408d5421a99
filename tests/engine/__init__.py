"""Real vLLM: language models and embeddings on the CPU, with real weights."""
