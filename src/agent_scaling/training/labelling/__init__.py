"""Labels games without actions with an inverse-dynamics model."""
