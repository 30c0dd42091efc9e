"""Commands that read the outputs of scans: export, report, stats."""
