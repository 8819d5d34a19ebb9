"""What a run keeps in the bucket, so that each of its steps may die at any moment and run again."""
