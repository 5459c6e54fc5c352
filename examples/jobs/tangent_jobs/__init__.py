"""Training jobs of the kinds that people have, each in a module of its own."""
