"""Keeping an index in step with its source: list, plan, read, validate, chunk, embed, stage, publish."""
