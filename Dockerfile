# syntax=docker/dockerfile:1
# The gateway on Ray's own image, for CPU nodes and for GPU nodes.
#
#   docker build --target cpu --tag fingerpost:0.1.0-cpu .
#   docker build --target gpu --tag fingerpost:0.1.0-gpu .
#
# No key belongs into an image: keys come from the environment of the container.
# docs/operate/kubernetes.md says how the images are used, and what of them was never tried.

# The version of Ray and of Python that requirements/base.txt is made for.
ARG RAY=2.60.0-py311

FROM rayproject/ray:${RAY}-cpu AS wheel
COPY pyproject.toml README.md LICENSE /src/
COPY configs /src/configs/
COPY serve_app /src/serve_app/
COPY deployments /src/deployments/
RUN pip wheel --quiet --no-cache-dir --no-deps --wheel-dir /tmp/dist /src

FROM rayproject/ray:${RAY}-cpu AS cpu
COPY requirements/base.txt /tmp/requirements/
RUN pip install --quiet --no-cache-dir --no-deps --requirement /tmp/requirements/base.txt
RUN --mount=type=bind,from=wheel,source=/tmp/dist,target=/tmp/dist \
    pip install --quiet --no-cache-dir --no-deps /tmp/dist/*.whl && \
    ln -s "$(command -v fingerpost-haproxy)" /home/ray/fingerpost-haproxy && \
    test -x /home/ray/fingerpost-haproxy
# configs/serve.env, but that a cluster is not open to everyone who reaches it.
ENV RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
    RAY_SERVE_LOG_TO_STDERR=1 \
    RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=134217728 \
    RAY_SERVE_HAPROXY_TUNE_BUFSIZE=262144 \
    RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=900 \
    RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S=120 \
    RAY_SERVE_HAPROXY_METRICS_ENABLED=0 \
    RAY_SERVE_CONTROL_LOOP_INTERVAL_S=0.5 \
    RAY_SERVE_METRICS_EXPORT_INTERVAL_MS=1000 \
    RAY_LOG_MONITOR_MANY_FILES_THRESHOLD=1 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.header_text:middlewares \
    no_grpc_proxy=0.0.0.0/0,::/0 \
    RAY_SERVE_HAPROXY_BINARY_PATH=/home/ray/fingerpost-haproxy \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_AUTH_MODE=token
# The user stays the base image's: ray, 1000.
USER 1000
EXPOSE 8000

FROM rayproject/ray:${RAY}-gpu AS gpu
COPY requirements/base.txt requirements/gpu.sh /tmp/requirements/
RUN pip install --quiet --no-cache-dir --no-deps --requirement /tmp/requirements/base.txt && \
    sh /tmp/requirements/gpu.sh
RUN --mount=type=bind,from=wheel,source=/tmp/dist,target=/tmp/dist \
    pip install --quiet --no-cache-dir --no-deps /tmp/dist/*.whl && \
    ln -s "$(command -v fingerpost-haproxy)" /home/ray/fingerpost-haproxy && \
    test -x /home/ray/fingerpost-haproxy
ENV RAY_SERVE_ENABLE_HA_PROXY=1 \
    RAY_SERVE_THROUGHPUT_OPTIMIZED=1 \
    RAY_SERVE_LOG_TO_STDERR=1 \
    RAY_SERVE_REPLICA_GRPC_MAX_MESSAGE_LENGTH=134217728 \
    RAY_SERVE_HAPROXY_TUNE_BUFSIZE=262144 \
    RAY_SERVE_HAPROXY_HARD_STOP_AFTER_S=900 \
    RAY_SERVE_HAPROXY_TIMEOUT_CLIENT_S=120 \
    RAY_SERVE_HAPROXY_METRICS_ENABLED=0 \
    RAY_SERVE_CONTROL_LOOP_INTERVAL_S=0.5 \
    RAY_SERVE_METRICS_EXPORT_INTERVAL_MS=1000 \
    RAY_LOG_MONITOR_MANY_FILES_THRESHOLD=1 \
    RAY_SERVE_HTTP_PROXY_CALLBACK_IMPORT_PATH=deployments.header_text:middlewares \
    no_grpc_proxy=0.0.0.0/0,::/0 \
    RAY_SERVE_HAPROXY_BINARY_PATH=/home/ray/fingerpost-haproxy \
    RAY_USAGE_STATS_ENABLED=0 \
    RAY_AUTH_MODE=token
USER 1000
EXPOSE 8000
