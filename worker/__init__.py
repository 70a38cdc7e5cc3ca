"""Training: Celery's entry, one supervisor a run, the sweeper, and the processes that read and train. No fastapi."""
