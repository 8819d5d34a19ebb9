"""What is asked of the webhook, by whom, and the listener that takes it."""
