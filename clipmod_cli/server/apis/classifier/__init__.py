"""The classifier API: five endpoints over any classifier that the operator allows."""
