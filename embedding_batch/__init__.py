"""Product pictures to a checked, uploaded and committed index: ``python -m embedding_batch``."""
