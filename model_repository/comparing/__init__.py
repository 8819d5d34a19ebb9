"""What differs between two builds, and what counts as the same."""
