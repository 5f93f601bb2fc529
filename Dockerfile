# syntax=docker/dockerfile:1
FROM python:3.11-slim-bookworm AS build
WORKDIR /src
COPY .ci/requirements.lock .ci/requirements.lock
# The lock's hashes are checked here; the image below takes from /wheels only what the daemon needs.
RUN pip download --no-cache-dir --require-hashes --only-binary :all: \
        --requirement .ci/requirements.lock --dest /wheels
COPY pyproject.toml README.md ./
COPY config config
COPY cdc_daemon cdc_daemon
RUN pip wheel --no-cache-dir --no-deps --no-index --find-links /wheels --wheel-dir /wheels . \
    && python -m venv /opt/cdc-daemon \
    && /opt/cdc-daemon/bin/pip install --no-cache-dir --no-index --find-links /wheels cdc-daemon

FROM python:3.11-slim-bookworm
LABEL org.opencontainers.image.title="cdc-daemon" \
      org.opencontainers.image.description="Row changes of ERP, CRM and HR databases as canonical entities, exactly once"
COPY --from=build /opt/cdc-daemon /opt/cdc-daemon
ENV PATH="/opt/cdc-daemon/bin:$PATH" \
    PYTHONUNBUFFERED=1
# The configuration is mounted at /etc/cdc-daemon; the root file system may be read-only.
USER 10001:10001
STOPSIGNAL SIGTERM
ENTRYPOINT ["cdc-daemon"]
CMD ["run"]
