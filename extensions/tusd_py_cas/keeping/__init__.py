"""Keeping what is stored in order, beside everything else: taking out what nothing needs, and reading what is there again."""
