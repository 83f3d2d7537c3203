"""Launchers for this machine, SLURM and Ray, and the loop that every worker runs under each of them."""
