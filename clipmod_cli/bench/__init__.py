"""Measures the speed of this machine by stage and end to end (`measure.measure`).

Scores are discarded, and the history store is not written.
"""
