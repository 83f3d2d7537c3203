"""Bundles: one archive of a run, written for a reviewer and read with care."""
