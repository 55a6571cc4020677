"""Fuzzing of everything that reads what strangers write: ``python -m mlic.tools.fuzz``."""
