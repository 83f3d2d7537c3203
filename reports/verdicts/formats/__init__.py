"""Verdicts as text, JSON, in-toto, LaTeX and HTML."""
