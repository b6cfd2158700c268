"""How the terms of a loss are balanced: by learned weights, or by combining their gradients."""
