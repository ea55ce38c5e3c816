# The worker, the command `wallet` and the payment simulator in one image.
#
#   docker build -t wallet-worker .
#   docker run --rm wallet-worker --help
#
# No secret goes in: every setting comes from the environment at run time.
ARG BASE=python:3.13-slim

FROM ${BASE} AS build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore
WORKDIR /src
# The locked packages first: this layer stays when only the code changes.
COPY requirements.lock requirements-build.lock ./
RUN python3 -m venv /opt/wallet \
    && /opt/wallet/bin/pip install --require-hashes --requirement requirements.lock \
    && python3 -m venv /opt/build \
    && /opt/build/bin/pip install --require-hashes --requirement requirements-build.lock
COPY pyproject.toml README.md LICENSE ./
COPY schemas schemas
COPY payment_simulator payment_simulator
COPY wallet_worker wallet_worker
RUN /opt/build/bin/hatchling build --target wheel \
    && /opt/wallet/bin/pip install --no-deps --no-index dist/*.whl

FROM ${BASE}
# The number is fixed so that a cluster's policy and a volume's owner can name it.
RUN useradd --uid 10001 --user-group --no-create-home --home-dir /nonexistent --shell /usr/sbin/nologin wallet \
    && install --directory --owner=wallet --group=wallet /var/lib/payment-simulator \
    && install --directory --owner=wallet --group=wallet --mode=700 /var/lib/wallet-console
COPY --from=build /opt/wallet /opt/wallet
ENV PATH=/opt/wallet/bin:$PATH PYTHONUNBUFFERED=1 WALLET_HTTP_PORT=9300
USER wallet
WORKDIR /var/lib/payment-simulator
EXPOSE 9300
# The worker handles SIGTERM itself and starts no children: as process 1 it needs no init beside it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s --retries=3 \
    CMD ["python3", "-c", "import os, urllib.request as r; r.urlopen(f'http://127.0.0.1:{os.environ[\"WALLET_HTTP_PORT\"]}/healthz', timeout=4)"]
# Always the list form: a shell in between would swallow SIGTERM.
ENTRYPOINT ["wallet"]
CMD ["worker"]
