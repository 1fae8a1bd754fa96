"""The protocol as a pure model, and a machine that drives the real one against it."""
