"""Hosted pictures and prediction files: private, expiring, within a quota, shared between processes."""
