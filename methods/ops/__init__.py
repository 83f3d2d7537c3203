"""Numerical operations of the losses: correlation sums, precision, and gathering over ranks."""
