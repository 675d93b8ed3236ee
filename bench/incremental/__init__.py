"""Ragworks, LangChain, LlamaIndex and CocoIndex keep the same index in step with the same changing documents."""
