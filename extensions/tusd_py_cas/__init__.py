"""Content-addressed storage for tusd-py: finished uploads are cut by content, and no chunk is stored twice."""
