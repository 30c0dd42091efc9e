"""Models through onnxruntime: its sessions, and image classifiers that a small TOML file describes."""
