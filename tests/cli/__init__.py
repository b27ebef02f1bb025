"""The command line, the settings and where they come from."""
