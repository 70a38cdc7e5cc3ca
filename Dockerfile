# syntax=docker/dockerfile:1

# Two images. `api` serves HTTP, migrates and sweeps, and holds no torch; `worker` trains.
#
#   docker build --target api --tag backpropd-api .
#   docker build --target worker --tag backpropd-worker .
#   docker build --target worker --build-arg TORCH_INDEX_URL=https://download.pytorch.org/whl/cu130 ...   (CUDA)
#
# They have no HEALTHCHECK of their own: one image runs several processes, and each is asked another question
# (`backpropd check api`, `worker`, `sweeper`; see docker-compose.yml).

# The Python that constraints.txt was resolved for and the tests run on.
FROM python:3.11-slim-bookworm AS base
ENV HOME=/tmp \
    PIP_CACHE_DIR=/root/.cache/pip \
    PIP_DISABLE_PIP_VERSION_CHECK=1 \
    PIP_ROOT_USER_ACTION=ignore \
    PYTHONUNBUFFERED=1
# A new volume takes its owner from the folder of the image that it is mounted on.
RUN groupadd --gid 10001 backpropd \
    && useradd --uid 10001 --gid 10001 --no-create-home --home-dir /tmp --shell /usr/sbin/nologin backpropd \
    && install --directory --owner 10001 --group 10001 /data/storage /data/work
WORKDIR /data

FROM base AS api
RUN --mount=type=bind,target=/source \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /source/constraints.txt /source
USER 10001:10001
EXPOSE 8000
CMD ["backpropd", "api", "--host", "0.0.0.0"]

FROM base AS worker
# torch alone comes from PyTorch's index, whose builds are told apart by a local label (2.13.0+cpu); everything else,
# CUDA libraries included, comes from PyPI: two indexes in one install would let either answer for any name.
ARG TORCH_INDEX_URL=https://download.pytorch.org/whl/cpu
RUN --mount=type=bind,source=constraints.txt,target=/constraints.txt \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /constraints.txt --no-deps --index-url "${TORCH_INDEX_URL}" torch
RUN --mount=type=bind,target=/source \
    --mount=type=cache,target=/root/.cache/pip \
    pip install --constraint /source/constraints.txt "/source[worker]"
USER 10001:10001
ENV BACKPROPD_WORK_DIR=/data/work
CMD ["backpropd", "worker"]
