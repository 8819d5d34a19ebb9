"""Pictures to embeddings: the one preprocessing that batch and search server share."""
