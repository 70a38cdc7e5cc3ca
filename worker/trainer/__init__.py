"""The training process: knows the spec and torch. No database, no broker, no storage, no credentials.

Read in this order: `main` (one training from order to artifacts), `fit` (the loop), then what they use.
"""
