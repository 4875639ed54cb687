# The operator's image. Any Debian-like base with Python >= 3.11 and venv will do:
#   docker build --build-arg BASE_IMAGE=python:3.13-slim-trixie -t cachecluster/operator:dev .
# A package index other than the default one is passed as a secret file of shell exports, which leaves no trace:
#   --secret id=build-env,src=FILE        (PIP_INDEX_URL, UV_DEFAULT_INDEX, SSL_CERT_FILE, ...)
ARG BASE_IMAGE=python:3.13-slim-trixie

FROM ${BASE_IMAGE} AS builder
ARG UV_VERSION=0.13.9
ENV UV_PROJECT_ENVIRONMENT=/opt/cachecluster \
    UV_PYTHON=python3 \
    UV_PYTHON_PREFERENCE=only-system \
    UV_PYTHON_DOWNLOADS=never \
    UV_LINK_MODE=copy \
    UV_NO_CACHE=1 \
    UV_HTTP_RETRIES=10 \
    PIP_RETRIES=10
WORKDIR /src
RUN --mount=type=secret,id=build-env,target=/run/build-env \
    if [ -f /run/build-env ]; then . /run/build-env; fi \
    && python3 -m venv /opt/uv \
    && /opt/uv/bin/python -m pip install --quiet --no-cache-dir --disable-pip-version-check "uv==${UV_VERSION}"

# Dependencies first: they change less often than the code.
COPY pyproject.toml uv.lock ./
RUN --mount=type=secret,id=build-env,target=/run/build-env \
    if [ -f /run/build-env ]; then . /run/build-env; fi \
    && /opt/uv/bin/uv sync --quiet --frozen --no-dev --no-install-project

COPY README.md LICENSE ./
COPY operator operator
# Byte code is compiled here because the file system is read-only at run time; not for the thousands of generated API
# modules of the Kubernetes client, which are imported one by one on use: the operator speaks plain JSON.
RUN --mount=type=secret,id=build-env,target=/run/build-env \
    if [ -f /run/build-env ]; then . /run/build-env; fi \
    && /opt/uv/bin/uv sync --quiet --frozen --no-dev --no-editable \
    && find /opt/cachecluster -depth -type d \( -name tests -o -name __pycache__ \) -path '*/site-packages/*' -exec rm -rf {} + \
    && /opt/cachecluster/bin/python -m compileall -q -j 0 -x 'kubernetes/(aio/)?client/(api|models)/' /opt/cachecluster/lib

FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="cachecluster-operator" \
      org.opencontainers.image.licenses="Apache-2.0"
ENV PATH=/opt/cachecluster/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1
COPY --from=builder /opt/cachecluster /opt/cachecluster
WORKDIR /
# A number, so that the kubelet can tell that it is not root (runAsNonRoot).
USER 65532:65532
ENTRYPOINT ["cachecluster-operator"]
