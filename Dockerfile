# The service, and the command line, in a container without root, compiler or package manager's leftovers.
#
#   docker build -t clipmod:cpu .
#   docker build -t clipmod:gpu --build-arg VARIANT=gpu .
#   docker build -t clipmod:small --build-arg VARIANT=small .       without torch: the light models alone
#   docker run --rm -p 127.0.0.1:8000:8000 -e CLIPMOD_API_KEYS -v clipmod-weights:/weights \
#     -v clipmod-data:/data clipmod:cpu
#   docker run --rm --no-healthcheck -v "$PWD/pictures:/pictures:ro" -v clipmod-weights:/weights \
#     -v clipmod-data:/data clipmod:cpu scan /pictures
#
# The gpu variant needs the NVIDIA container toolkit on the host and `docker run --gpus all`.
# There the models on torch use the GPU; the light models run on the processor in all variants.

ARG BASE=python:3.12-slim-bookworm
# Both stages use one base, so that the virtual environment fits; give a digest here to pin it to the byte.

# ---------------------------------------------------------------- build
FROM ${BASE} AS build

ARG VARIANT=cpu
# "cpu": torch from PyTorch's own index, without CUDA (about 4 GB less). "gpu": torch with CUDA.
# "small": no torch, so neither the ensemble nor classes of one's own.
ARG EXTRAS
# The extras of the project to install, separated by commas; may be empty. If it is not given: all of them, in
# the small variant nudenet alone.

ENV PIP_NO_CACHE_DIR=1 \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore

RUN python -m venv /opt/clipmod
ENV PATH=/opt/clipmod/bin:$PATH

# torch comes first and alone: it is the largest layer, and a change of the source leaves it as it is.
# Its versions are those of the extra clip.
RUN case "${VARIANT}" in \
      cpu) pip install --index-url https://download.pytorch.org/whl/cpu "torch>=2.10" "torchvision>=0.25" ;; \
      gpu) pip install "torch>=2.10" "torchvision>=0.25" ;; \
      small) ;; \
      *) echo "VARIANT is '${VARIANT}'; it must be cpu, gpu or small" >&2; exit 2 ;; \
    esac

WORKDIR /src
COPY pyproject.toml README.md LICENSE ./
COPY clipmod_cli ./clipmod_cli
RUN if [ "${VARIANT}" = small ]; then usual=nudenet; else usual=all; fi \
 && extras="${EXTRAS-${usual}}" \
 && pip wheel --no-deps --wheel-dir /wheels . \
 && pip install "$(echo /wheels/clipmod-*.whl)${extras:+[${extras}]}" \
 && pip check

# Installing the rest must not have exchanged the torch that was chosen above, nor brought one that was not.
RUN if [ "${VARIANT}" = small ]; then \
      ! python -c "import torch" 2>/dev/null || { echo "EXTRAS bring torch: use VARIANT=cpu" >&2; exit 2; }; \
    else \
      python -c "import sys, torch; sys.exit((torch.version.cuda is None) != ('${VARIANT}' == 'cpu'))"; \
    fi

# Messages then say how to build the image with an extra (clipmod_cli/install.py).
RUN touch /opt/clipmod/clipmod-image

# ---------------------------------------------------------------- what is shipped
FROM ${BASE} AS final

LABEL org.opencontainers.image.title="clipmod" \
      org.opencontainers.image.description="Batch moderation of pictures and videos with an ensemble of OpenCLIP models" \
      org.opencontainers.image.source="https://github.com/clipmod/clipmod" \
      org.opencontainers.image.documentation="https://github.com/clipmod/clipmod/tree/main/docs" \
      org.opencontainers.image.licenses="Apache-2.0"

# A fixed number, so that the owner of a volume stays the same from one image to the next.
# The folders belong to the user before they become volumes: a new named volume takes over their owner.
RUN groupadd --gid 10001 clipmod \
 && useradd --uid 10001 --gid clipmod --home-dir /data --no-create-home --shell /usr/sbin/nologin clipmod \
 && install --directory --owner=clipmod --group=clipmod /weights /data

COPY --from=build /opt/clipmod /opt/clipmod

# Weights and data (the store, caches) live in volumes: the rest of the file system may be read-only.
# The two NVIDIA variables mean nothing without the NVIDIA container toolkit.
ENV PATH=/opt/clipmod/bin:$PATH \
    HOME=/data \
    XDG_DATA_HOME=/data \
    XDG_CACHE_HOME=/data/cache \
    XDG_CONFIG_HOME=/data/config \
    HF_HOME=/weights \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1 \
    NVIDIA_VISIBLE_DEVICES=all \
    NVIDIA_DRIVER_CAPABILITIES=compute,utility

VOLUME ["/weights", "/data"]
WORKDIR /data
USER 10001:10001

# Inside a container loopback is reachable by nobody, so `serve` listens at all addresses: it does not start
# without an API key or --no-auth.
ENV CLIPMOD_HOST=0.0.0.0 \
    CLIPMOD_PORT=8000
EXPOSE 8000

# Whether `serve` lives; loading models takes its time at the start. A scan answers no port: run it with
# --no-healthcheck, or look at its exit code.
HEALTHCHECK --interval=30s --timeout=10s --start-period=5m --retries=3 \
  CMD ["python", "-c", "import http.client, os, sys; c = http.client.HTTPConnection('127.0.0.1', int(os.environ['CLIPMOD_PORT']), timeout=5); c.request('GET', '/healthz'); sys.exit(c.getresponse().status != 200)"]

ENTRYPOINT ["clipmod"]
CMD ["serve"]
