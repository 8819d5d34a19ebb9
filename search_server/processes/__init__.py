"""The processes of a pod: a supervisor that keeps workers, what they know of each other, and the probes."""
