"""Scoring retrieval against judged queries."""
