# Built with every package pinned by hash; runs without root and without a shell, and with a read-only file system as
# long as the cache and state folders below are writable.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
ENV PATH=/opt/graph-sidecar/bin:$PATH PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
COPY requirements/run.txt requirements/build.txt requirements/
# The build backend stays out of the image that runs.
RUN python -m venv /opt/graph-sidecar \
    && pip install --require-hashes --requirement requirements/run.txt \
    && pip install --require-hashes --requirement requirements/build.txt --target /opt/build
COPY pyproject.toml README.md ./
COPY proxy proxy
RUN PYTHONPATH=/opt/build pip install --no-deps --no-build-isolation .

FROM ${PYTHON}
LABEL org.opencontainers.image.title="graph-sidecar" \
      org.opencontainers.image.description="A proxy beside your application that makes fewer, smaller and fuller calls to Meta's Graph API."
COPY --from=build /opt/graph-sidecar /opt/graph-sidecar
RUN mkdir -p /var/cache/graph-sidecar /var/lib/graph-sidecar \
    && chown 10001:10001 /var/cache/graph-sidecar /var/lib/graph-sidecar \
    && chmod 0700 /var/cache/graph-sidecar /var/lib/graph-sidecar
# A container is reached from outside itself; in a pod, set LISTEN back to 127.0.0.1:8080.
ENV PATH=/opt/graph-sidecar/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRAPH_SIDECAR_LISTEN=0.0.0.0:8080 \
    GRAPH_SIDECAR_ADMIN=0.0.0.0:9180 \
    GRAPH_SIDECAR_CACHE__DIR=/var/cache/graph-sidecar \
    GRAPH_SIDECAR_CACHE__KEY_FILE=/var/lib/graph-sidecar/key
USER 10001:10001
EXPOSE 8080 9180
VOLUME ["/var/cache/graph-sidecar", "/var/lib/graph-sidecar"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "proxy", "wait", "--timeout", "1"]
ENTRYPOINT ["python", "-m", "proxy"]
CMD ["serve"]
