"""Answers similarity queries from a mapped index."""
