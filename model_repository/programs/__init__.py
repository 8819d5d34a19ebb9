"""What a program has: settings from the environment, tokens by which it knows who asks; what functions do alike."""
