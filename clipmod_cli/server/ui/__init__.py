"""The page for people: one file of HTML, and scripts that use the same endpoints as any client."""
