"""What callers share: places, request bodies, decoders and the device, each caller no more than its part."""
