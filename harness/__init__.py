"""Runs sweeps: data, training, evaluation, launchers, monitoring and the command line. May import every other room."""
