"""Bucket, event delivery, function host and a small cluster on one machine."""
