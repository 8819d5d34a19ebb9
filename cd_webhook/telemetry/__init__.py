"""What monitoring is told: figures for Prometheus, and the spans of rollouts."""
