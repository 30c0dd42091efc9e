"""Banks of hashes: content that is always NSFW (deny) or always Safe (allow), whatever models say."""
