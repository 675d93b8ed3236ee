"""Watches a collection: what is measured, when it counts as a breach, what is done about it."""
