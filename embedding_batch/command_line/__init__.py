"""What the batch is told on its command line, and what it shows there."""
