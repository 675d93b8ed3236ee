"""A small server of promoted language models behind OpenAI's chat completions: `ragworks serve-llm`."""
