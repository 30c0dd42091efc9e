"""Clusters of copies and near copies (`clipmod dedupe`). Judges, moves and deletes nothing."""
