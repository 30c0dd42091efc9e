"""Calibrated early exit: pictures that the first models call safe are let go, at a stated risk."""
