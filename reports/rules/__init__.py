"""The rules A1 to A24 that a claim must meet, one file for each subject; registry.py lists them all in order."""
