"""One thread for a device: concurrent requests share its forward passes."""
