"""Object stores: local servers that speak as they do, and the real command in front of them."""
