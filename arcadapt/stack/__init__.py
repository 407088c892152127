"""The local stack: a real PostgreSQL, a real Valkey, the API, a worker and beat, as child processes of one command."""
