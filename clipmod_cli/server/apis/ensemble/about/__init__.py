"""What the ensemble API says of the service itself: `/`, `/health`, `/config` and `/stats`."""
