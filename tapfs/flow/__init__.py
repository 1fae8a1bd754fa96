"""The Celery side of tapfs."""
