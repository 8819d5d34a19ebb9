"""What is missing or too much in a whole installation: ``indexpush check``.

`installation` asks Google Cloud and the webhook; `bucket`, `events` and `programs` judge what they answered, and know
neither a network nor a clock.
"""
