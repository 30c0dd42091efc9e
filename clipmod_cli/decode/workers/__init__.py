"""Worker processes that decode untrusted bytes within limits, and how their parent talks to them."""
