# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY .ci/requirements.lock .ci/requirements.lock
# The lock's hashes are checked here; the image below takes from /wheels only what the daemon needs.
RUN pip download --no-cache-dir --no-deps --require-hashes --only-binary :all: \
        --requirement .ci/requirements.lock --dest /wheels
COPY pyproject.toml README.md ./
COPY config config
COPY docs/man docs/man
COPY systemd systemd
COPY cdc_daemon cdc_daemon
RUN pip wheel --no-cache-dir --no-deps --no-index --find-links /wheels --wheel-dir /wheels . \
    && python -m venv /opt/cdc-daemon \
    && /opt/cdc-daemon/bin/pip install --no-cache-dir --no-index --find-links /wheels cdc-daemon \
    && /opt/cdc-daemon/bin/pip uninstall --yes pip setuptools

FROM python:3.11-slim-bookworm
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="cdc-daemon" \
      org.opencontainers.image.description="Row changes of ERP, CRM and HR databases as canonical entities, exactly once" \
      org.opencontainers.image.version="$VERSION" \
      org.opencontainers.image.revision="$REVISION" \
      org.opencontainers.image.base.name="docker.io/library/python:3.11-slim-bookworm"
COPY --from=build /opt/cdc-daemon /opt/cdc-daemon
ENV PATH="/opt/cdc-daemon/bin:$PATH" \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
# The configuration is mounted at /etc/cdc-daemon. Nothing is written: run it with --read-only.
USER 10001:10001
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=30s --timeout=10s --start-period=60s --retries=3 \
    CMD ["cdc-daemon", "healthcheck"]
ENTRYPOINT ["cdc-daemon"]
CMD ["run"]
