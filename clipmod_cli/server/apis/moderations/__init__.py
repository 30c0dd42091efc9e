"""`/v1/moderations` in OpenAI's shape: pictures are moderated, text is refused."""
