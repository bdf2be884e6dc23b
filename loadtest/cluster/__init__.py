"""Several Ray nodes on one machine, each in a network of its own, and what their loss costs."""
