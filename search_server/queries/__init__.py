"""What is asked of the index: how it is searched, and in whose turn."""
