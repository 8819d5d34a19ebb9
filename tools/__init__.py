"""What makes things that the rooms take as they are."""
