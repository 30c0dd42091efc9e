"""Evidence on disk: what the models saw, so that another policy costs no decoding and no forward pass."""
