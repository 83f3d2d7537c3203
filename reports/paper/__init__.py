"""Tables and figures for a paper: LaTeX, CSV, Markdown, PDF and SVG."""
