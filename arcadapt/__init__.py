"""What users touch: the Python client, the command line, and the local stack.

>>> from arcadapt import Client
>>> with Client() as client:  # doctest: +SKIP
...     accepted = client.solve(task)
...     for job in client.wait(job.id for job in accepted.jobs):
...         print(job.task_id, job.results)
"""

from arcadapt.client import Client
from arcadapt.errors import ApiError, ArcadaptError, ServerUnreachable, UnexpectedAnswer, WaitTimedOut

__all__ = ["ApiError", "ArcadaptError", "Client", "ServerUnreachable", "UnexpectedAnswer", "WaitTimedOut"]
