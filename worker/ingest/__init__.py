"""Reading an uploaded table in a child process with limits: from bytes that nobody trusts to profile and arrays."""
