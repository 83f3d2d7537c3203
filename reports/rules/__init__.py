"""The admissibility rules A1 to A24, each a function from a case to an outcome."""
