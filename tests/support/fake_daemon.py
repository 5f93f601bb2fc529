"""A supervisor over fake workers: `python fake_daemon.py FILE`.

FILE is JSON: `documents` by pipeline, `limits`, and `address`, a file to which the address of the
admin server is written; perhaps `notifications`. SIGHUP reads all but `address` again.
"""

import json
import sys
from pathlib import Path
from typing import Any

from cdc_daemon import telemetry
from cdc_daemon.config.notifications import NotificationsConfig
from cdc_daemon.daemon import Limits, Reloaded, Supervisor
from cdc_daemon.model.errors import ConfigurationError


def main(path: Path) -> int:
    """Supervise what the file says."""
    telemetry.configure("debug")
    settings = json.loads(path.read_text())

    def reload() -> Reloaded:
        try:
            found: dict[str, Any] = json.loads(path.read_text())
        except ValueError as exc:
            raise ConfigurationError(f"{path.name}: {exc}") from exc
        return Reloaded(
            documents=found["documents"],
            limits=Limits(**found["limits"]),
            logs={"level": "debug"},
            notifications=_notifications(found),
        )

    supervisor = Supervisor(
        reload().documents,
        reload=reload,
        limits=Limits(**settings["limits"]),
        admin_address=("127.0.0.1", 0),
        notifications=_notifications(settings),
        worker_command=[sys.executable, str(Path(__file__).with_name("fake_worker.py"))],
    )
    assert supervisor.admin is not None
    waiting = Path(settings["address"] + ".new")
    waiting.write_text(supervisor.admin.url)
    waiting.rename(settings["address"])
    return supervisor.run()


def _notifications(settings: dict[str, Any]) -> NotificationsConfig | None:
    found = settings.get("notifications")
    return None if found is None else NotificationsConfig.model_validate(found)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
