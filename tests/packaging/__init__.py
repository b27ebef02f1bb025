"""What is released and what the repository promises."""
