"""What to run: sweep files, protocols, recipes and the identity of trials. Imports no torch."""
