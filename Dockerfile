# The image of both containers of the DaemonSet (broker and exporter) and of the cluster Deployment. Nothing in it depends on the
# architecture: `docker buildx build --platform linux/amd64,linux/arm64 .` or `podman build --platform ...` makes either.
ARG PYTHON_VERSION=3.14
ARG DEBIAN_RELEASE=trixie

FROM docker.io/library/python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE} AS builder
WORKDIR /src
# Dependencies first, so that a change of our own code does not install them again. Wheels only: no compiler is here or is needed.
COPY requirements.lock requirements-build.lock ./
RUN python -m venv /build \
 && python -m venv --without-pip /opt/dualstack-exporter \
 && /build/bin/pip install --no-cache-dir --require-hashes --only-binary :all: --requirement requirements-build.lock \
 && /build/bin/pip --python /opt/dualstack-exporter/bin/python install --no-cache-dir --no-compile --require-hashes \
    --only-binary :all: --requirement requirements.lock \
 # Two thirds of all that are the Kubernetes client's generated models and calls, each loaded on first use. The exporter uses none of them.
 && find /opt/dualstack-exporter/lib -regex '.*/kubernetes/\(aio/\)?client/\(api\|models\)/.*' -type f ! -name __init__.py -delete
COPY pyproject.toml README.md LICENSE ./
COPY exporter exporter
COPY alerts/runbooks alerts/runbooks
# The bytecode is made here, once: the root file system is read-only where this runs. `unchecked`: its sources never change again.
RUN /build/bin/pip wheel --no-cache-dir --no-deps --no-build-isolation --wheel-dir /wheels . \
 && /build/bin/pip --python /opt/dualstack-exporter/bin/python install --no-cache-dir --no-compile --no-deps /wheels/*.whl \
 && python -m compileall -q --invalidation-mode unchecked-hash /opt/dualstack-exporter/lib

FROM docker.io/library/python:${PYTHON_VERSION}-slim-${DEBIAN_RELEASE}
ARG REVISION=unknown
ARG VERSION=unknown
LABEL org.opencontainers.image.title="dualstack-exporter" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.source="https://github.com/dualstack-exporter/dualstack-exporter" \
      org.opencontainers.image.description="Prometheus exporter for IPv4/IPv6 dual-stack health, seen from inside the pods' own network namespaces" \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.revision="${REVISION}"
COPY --from=builder /opt/dualstack-exporter /opt/dualstack-exporter
COPY LICENSE /licenses/LICENSE
ENV PATH=/opt/dualstack-exporter/bin:$PATH \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    DUALSTACK_EXPORTER_REVISION=${REVISION}
# The broker alone is started as uid 0, by the manifest that also gives it its four capabilities.
USER 65532:65532
EXPOSE 10046
HEALTHCHECK --interval=30s --timeout=5s --start-period=10s \
    CMD ["python", "-c", "from urllib.request import urlopen; urlopen('http://localhost:10046/-/healthy', timeout=4)"]
ENTRYPOINT ["dualstack-exporter"]
