"""HTTP: what other programs call. Imports core; never worker, never torch. One noun, one file."""
