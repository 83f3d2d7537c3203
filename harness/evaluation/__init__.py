"""Evaluation of a trained encoder: features, probes and diagnostics."""
