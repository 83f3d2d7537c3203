"""Following a run: status, progress bars, the terminal view and the live page."""
