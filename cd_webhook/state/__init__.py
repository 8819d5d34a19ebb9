"""The state of a rollout: annotations of its Deployment, as values."""
