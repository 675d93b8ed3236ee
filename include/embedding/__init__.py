"""Turning texts into vectors, and telling exactly which vectors those are."""
