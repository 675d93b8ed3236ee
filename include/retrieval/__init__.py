"""The read path: from a question to chunks of the live generation."""
