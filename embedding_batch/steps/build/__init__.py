"""Step `build`: vectors become partitions, each built, tuned, and checked as it was saved."""
