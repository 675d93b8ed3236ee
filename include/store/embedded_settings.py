"""What the embedded server is told: one laptop, loopback only, logs that stay small and hold no secret."""

from __future__ import annotations

import os
from pathlib import Path

SETTINGS_FILE = "postgresql.conf"
_MIB = 2**20


def server_settings(port: int, log: Path, memory: int | None = None) -> str:
    """The whole postgresql.conf; what a person sets with ALTER SYSTEM still wins over it.

    :param memory: bytes of this machine; read from the system when None.
    """
    total = memory or os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    share = min(max(total // 16 // _MIB, 128), 1024)  # 8 GiB: 512 MB, beside Airflow (1.1 GiB) and torch
    settings = {
        "listen_addresses": "127.0.0.1",
        "port": port,
        "unix_socket_directories": "",
        "password_encryption": "scram-sha-256",
        "max_connections": 200,  # Airflow's pools, task processes, the API and a few shells
        "shared_buffers": f"{share}MB",
        "maintenance_work_mem": f"{share}MB",  # HNSW builds slow down steeply once the graph no longer fits
        "work_mem": "16MB",
        "effective_cache_size": f"{total // 2 // _MIB}MB",
        "dynamic_shared_memory_type": _shared_memory(share * _MIB),
        "jit": "off",  # no LLVM in the wheel
        "wal_level": "minimal",  # nobody replicates it; bulk loads into a new table skip the log
        "max_wal_senders": 0,
        "max_wal_size": "2GB",
        "TimeZone": "UTC",
        "log_timezone": "UTC",
        "lc_messages": "C",
        "default_text_search_config": "pg_catalog.english",
        "logging_collector": "on",
        "log_directory": str(log),
        "log_filename": "postgres-%a.log",  # seven files, each emptied when its day comes round
        "log_rotation_age": "1d",
        "log_rotation_size": 0,
        "log_truncate_on_rotation": "on",
        "log_min_messages": "warning",
        "log_min_error_statement": "panic",  # no statement texts: they hold documents, vectors and passwords
        "log_checkpoints": "off",
        "log_autovacuum_min_duration": -1,
        "log_line_prefix": "%m [%p] %d ",
    }
    lines = (f"{key} = '{str(value).replace(chr(39), chr(39) * 2)}'" for key, value in settings.items())
    return "# Written at every start; change settings with ALTER SYSTEM.\n" + "\n".join(lines) + "\n"


def _shared_memory(needed: int) -> str:
    """Parallel index builds want ``maintenance_work_mem`` in /dev/shm; a container has 64 MB of it: then use files."""
    shm = Path("/dev/shm")
    if not shm.is_dir():
        return "posix"
    disk = os.statvfs(shm)
    return "posix" if disk.f_bavail * disk.f_frsize > 2 * needed else "mmap"
