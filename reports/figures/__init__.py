"""Figures, as plotly objects for the page and as matplotlib for a paper."""
