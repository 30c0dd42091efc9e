"""Guards for uploads in web applications: FastAPI (`fastapi`), Django (`django`), and any other (`guard`)."""
