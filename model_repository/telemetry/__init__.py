"""What a program says of its own work: log lines, and spans."""
