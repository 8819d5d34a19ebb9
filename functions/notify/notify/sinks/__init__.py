"""Where people are told: Slack, or any webhook, behind one interface."""
