"""The Celery half: claims jobs, adapts, samples, records; and keeps the record honest when a worker dies."""
