"""Text: prompts become what networks take."""
