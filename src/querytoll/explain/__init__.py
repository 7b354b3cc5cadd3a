"""Execution plans: documents of the server to trees, and trees to findings."""
