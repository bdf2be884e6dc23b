"""How large a deployment must be: costs that were measured, a model of them, a simulation."""
