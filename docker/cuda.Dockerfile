# syntax=docker/dockerfile:1
# Kinetune's dependencies for NVIDIA GPUs, and not kinetune itself: a job brings its code, which is then the only copy.
#     docker build -f docker/cuda.Dockerfile -t kinetune:cuda .
FROM python:3.11-slim-bookworm

# wget: KubeRay's probes call it. libgl1, libglib2.0-0: MuJoCo draws with them. Versions are those of the base's release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 libglib2.0-0 wget \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml constraints.txt docker/dependencies.py /tmp/install/
# The same versions as everywhere. PyTorch for Linux brings its CUDA libraries: the host needs the driver only.
RUN python /tmp/install/dependencies.py /tmp/install/pyproject.toml > /tmp/install/requirements.txt \
    && pip install --no-cache-dir --constraint /tmp/install/constraints.txt \
        --requirement /tmp/install/requirements.txt \
    && rm -rf /tmp/install

RUN useradd --create-home --uid 1000 ray
USER ray
WORKDIR /home/ray
ENV OMP_NUM_THREADS=1 MUJOCO_GL=egl PYTHONUNBUFFERED=1 RAY_AUTH_MODE=token
