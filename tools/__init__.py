"""Command lines, training, and reports."""
