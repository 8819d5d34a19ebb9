"""What became of a commit, or of a filter: each document is written once, and never changed."""
