"""tapfs: stop, look into and go on with Celery workflows, by nothing but files."""
