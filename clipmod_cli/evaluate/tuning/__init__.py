"""Thresholds that keep a promise, from labelled scores to the text of a tuned policy."""
