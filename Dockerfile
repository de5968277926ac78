# docker build -t hourglass:cpu .
# docker build -t hourglass:cuda --build-arg EXTRAS=cuda .    CUDA and cuDNN as wheels: the host needs only the driver
#
# One base for both stages, because the environment made in the first points at the interpreter of
# the second. Any image with Python 3.11 or newer and its venv module will do, a mirror's or a digest too.
ARG BASE_IMAGE=python:3.11-slim-bookworm

FROM ${BASE_IMAGE} AS builder
ARG EXTRAS=""
WORKDIR /build
ENV PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_CACHE_DIR=1 PIP_ROOT_USER_ACTION=ignore

# pip has an environment of its own and fills the other from outside, so that no image has to carry it
RUN python3 -m venv /opt/pip && python3 -m venv --without-pip /opt/hourglass

COPY requirements/ requirements/
RUN /opt/pip/bin/pip --python /opt/hourglass/bin/python install --require-hashes -r "requirements/${EXTRAS:-serve}.txt"

# the lock file has the build backend too, for the project's own wheel; afterwards it goes
COPY LICENSE README.md pyproject.toml ./
COPY service/ service/
RUN /opt/pip/bin/pip --python /opt/hourglass/bin/python install --no-build-isolation --no-deps . \
 && /opt/pip/bin/pip --python /opt/hourglass/bin/python uninstall --yes \
        editables hatchling pathspec pluggy tomlkit trove-classifiers \
 && /opt/pip/bin/pip --python /opt/hourglass/bin/python check

# What serving never opens: test suites, ONNX Runtime's converters and, without the extra, its
# CUDA and TensorRT providers (272 MiB) and its C library, of which the Python module has its own copy.
RUN site=$(/opt/hourglass/bin/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))') \
 && find "$site/numpy" "$site/onnx" -type d \( -name tests -o -path '*/onnx/backend/test' \) -prune -exec rm -r {} + \
 && rm -r "$site/onnxruntime/quantization" "$site/onnxruntime/tools" "$site/onnxruntime/transformers" \
 && if [ "$EXTRAS" != cuda ]; then \
        rm -f "$site"/onnxruntime/capi/libonnxruntime_providers_cuda.so \
              "$site"/onnxruntime/capi/libonnxruntime_providers_tensorrt.so \
              "$site"/onnxruntime/capi/libonnxruntime.so.*; \
    fi


FROM ${BASE_IMAGE}
LABEL org.opencontainers.image.title="Hourglass" \
      org.opencontainers.image.description="A REST inference service for autoencoders" \
      org.opencontainers.image.licenses="Apache-2.0"

COPY --from=builder /opt/hourglass /opt/hourglass
COPY models /models

# The bytecode is in the image; a read-only root could not take more. ONNX Runtime's released builds
# send usage data to their maker unless they are told not to before they are loaded.
ENV PATH=/opt/hourglass/bin:$PATH \
    ORT_DISABLE_TELEMETRY=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    PYTHONUNBUFFERED=1 \
    HOURGLASS_HOST=0.0.0.0 \
    HOURGLASS_PORT=8000 \
    HOURGLASS_MODELS=/models \
    HOURGLASS_LOG_FORMAT=json

# a number, because Kubernetes cannot tell from a name that it is not root
USER 10001:10001
WORKDIR /
EXPOSE 8000
STOPSIGNAL SIGTERM

# /livez and not /readyz: whoever acts on a container's health restarts it (Swarm, for one), and a restart
# cures what /livez tells, but not the missing model or the draining that /readyz tells to load balancers.
HEALTHCHECK --interval=15s --timeout=3s --start-period=30s --retries=3 \
    CMD ["python", "-IS", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['HOURGLASS_PORT']), timeout=2); c.request('GET', '/livez'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["hourglass"]
CMD ["serve"]
