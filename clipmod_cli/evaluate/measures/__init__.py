"""What is measured on labelled inputs: rates, areas, calibration, comparisons and lists."""
