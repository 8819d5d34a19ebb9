"""The function that tells people, on Slack or any webhook, what becomes of each commit."""
