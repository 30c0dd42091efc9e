"""Commands that read the outputs of scans, one file each."""
