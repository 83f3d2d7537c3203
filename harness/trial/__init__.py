"""One trial, or a pack of them, from its plan to its record."""
