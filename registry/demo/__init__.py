"""Real adapters for a real base model, small enough to ship, and the test sentences to measure them on."""
