"""The processors besides the first: forked workers, and what they share."""
