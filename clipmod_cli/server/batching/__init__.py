"""One thread for a device: the frames of concurrent requests share forward passes."""
