"""Suggestions from plans, and the proof that they help."""
