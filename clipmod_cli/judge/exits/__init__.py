"""Calibrated early exit: pictures exit as Safe after the first models, at a stated risk."""
