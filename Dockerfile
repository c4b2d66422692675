# Built with every package pinned by hash; runs without root and without a shell, as any user, and with a read-only file
# system as long as its two volumes are writable.
ARG PYTHON=python:3.13-slim

FROM ${PYTHON} AS build
WORKDIR /src
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1
# hadolint ignore=DL3008
RUN command -v strip \
    || { apt-get update && apt-get install --yes --no-install-recommends binutils && rm -rf /var/lib/apt/lists/*; }
COPY requirements/run.txt requirements/build.txt requirements/
# Neither pip nor the build backend are in the environment that runs.
RUN python -m venv --without-pip /opt/graph-sidecar \
    && python -m pip --python /opt/graph-sidecar/bin/python install --no-compile --require-hashes --requirement requirements/run.txt \
    && python -m pip install --require-hashes --requirement requirements/build.txt --target /opt/build
COPY pyproject.toml README.md ./
COPY proxy proxy
RUN PYTHONPATH=/opt/build python -m pip --python /opt/graph-sidecar/bin/python install --no-compile --no-deps --no-build-isolation .
# Wheels hold symbols for debuggers, which are half of them. Nobody changes a file of an image, so nothing looks whether
# a compiled module is older than its source.
RUN find /opt/graph-sidecar/lib -name "*.so" -type f -exec strip --strip-unneeded {} + \
    && python -m compileall -q --invalidation-mode unchecked-hash /opt/graph-sidecar/lib

FROM ${PYTHON}
LABEL org.opencontainers.image.title="graph-sidecar" \
      org.opencontainers.image.description="A proxy beside your application that makes fewer, smaller and fuller calls to Meta's Graph API."
# Base images lack the compiled standard library: each start, and each health check, would compile it again.
RUN stdlib="$(python -c 'import sysconfig; print(sysconfig.get_path("stdlib"))')" \
    && rm -rf "$stdlib"/ensurepip "$stdlib"/site-packages/pip "$stdlib"/site-packages/pip-*.dist-info \
    && python -m compileall -q --invalidation-mode unchecked-hash \
       -x '/(test|tests|idlelib|tkinter|turtledemo|lib2to3|pydoc_data|site-packages|dist-packages)/' "$stdlib"
# As /tmp is: a container may run as any user.
RUN mkdir -p /var/cache/graph-sidecar /var/lib/graph-sidecar && chmod 1777 /var/cache/graph-sidecar /var/lib/graph-sidecar
COPY --from=build /opt/graph-sidecar /opt/graph-sidecar
COPY config/container/defaults.toml /opt/graph-sidecar/defaults.toml
ENV PATH=/opt/graph-sidecar/bin:$PATH \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    GRAPH_SIDECAR_DEFAULTS=/opt/graph-sidecar/defaults.toml
USER 10001:10001
EXPOSE 8080 9180
VOLUME ["/var/cache/graph-sidecar", "/var/lib/graph-sidecar"]
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s --start-period=30s CMD ["python", "-m", "proxy.health"]
ENTRYPOINT ["python", "-m", "proxy"]
CMD ["serve"]
