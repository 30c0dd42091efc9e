"""Policies, and evidence to verdicts by them. Runs no model, except to embed prompts."""
