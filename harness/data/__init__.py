"""Datasets, random streams and augmentation."""
