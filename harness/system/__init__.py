"""This machine: devices, memory, cgroups, code and library versions, the user's cache."""
