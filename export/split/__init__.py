"""Models cut into chains of steps."""
