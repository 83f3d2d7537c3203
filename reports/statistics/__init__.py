"""Statistics over seeds and examples; nothing here knows what a run is."""
