"""What people are shown of records: the report, without a sharp picture."""
