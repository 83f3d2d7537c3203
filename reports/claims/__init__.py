"""Claims: their file format, their declarations, and the evidence behind each."""
