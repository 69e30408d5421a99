"""The dialect of OpenAI responses."""
