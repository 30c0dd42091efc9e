"""Object stores as sources: S3, Google Cloud Storage and Hugging Face repositories."""
