"""What the commands found, in two forms: `people` read text, `programs` read JSON."""
