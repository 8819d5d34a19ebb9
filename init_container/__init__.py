"""Pulls and verifies the model and the index."""
