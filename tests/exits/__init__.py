"""Calibrated early exit."""
