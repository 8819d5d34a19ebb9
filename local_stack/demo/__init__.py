"""The whole path on one machine, step by step, each step checked."""
