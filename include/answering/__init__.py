"""From passages to an answer: prompts, the LLM, citations, confidence, and the extractive answer without an LLM."""
