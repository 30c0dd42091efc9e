"""How good the decisions are on labelled pictures: labels, the join with records, metrics and the report."""
