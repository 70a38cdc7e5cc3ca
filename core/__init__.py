"""What the API and the worker must agree on. Imports no fastapi, no torch, no numpy."""
