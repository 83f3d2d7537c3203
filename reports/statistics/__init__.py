"""Statistics over seeds and test examples, independent of runs and records."""
