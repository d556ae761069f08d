# syntax=docker/dockerfile:1
# Kinetune's dependencies without GPU, and not kinetune itself: a job brings its code, which is then the only copy.
#     docker build -f docker/cpu.Dockerfile -t kinetune:cpu .
FROM python:3.11-slim-bookworm

# wget: KubeRay's probes call it. libgl1, libglib2.0-0: MuJoCo draws with them. Versions are those of the base's release.
# hadolint ignore=DL3008
RUN apt-get update \
    && apt-get install --yes --no-install-recommends libegl1 libgl1 libglib2.0-0 wget \
    && rm -rf /var/lib/apt/lists/*

COPY pyproject.toml constraints.txt docker/dependencies.py /tmp/install/
# The same versions as everywhere; PyTorch from its own index, which has a build without CUDA.
RUN python /tmp/install/dependencies.py /tmp/install/pyproject.toml > /tmp/install/requirements.txt \
    && pip install --no-cache-dir --constraint /tmp/install/constraints.txt \
        --extra-index-url https://download.pytorch.org/whl/cpu --requirement /tmp/install/requirements.txt \
    && rm -rf /tmp/install

RUN useradd --create-home --uid 1000 ray
USER ray
WORKDIR /home/ray
ENV OMP_NUM_THREADS=1 MUJOCO_GL=egl PYTHONUNBUFFERED=1 RAY_AUTH_MODE=token
