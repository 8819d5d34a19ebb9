"""Decides, renders, applies, watches the rollout, undoes a bad one, says what happened."""
