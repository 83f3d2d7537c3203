"""Verdicts as text, JSON, in-toto, LaTeX and HTML; registry.py lists the formats."""
