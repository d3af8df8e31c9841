# Tillerman for a CPU, or with CUDA's wheels: docker build --build-arg TORCH=cu130 .
FROM python:3.11-slim-bookworm

# cpu, or the name of a CUDA build of PyTorch's index (cu126, cu130, ...)
ARG TORCH=cpu
ARG EXTRAS=serve

ENV PYTHONUNBUFFERED=1 PIP_NO_CACHE_DIR=1 PIP_DISABLE_PIP_VERSION_CHECK=1

WORKDIR /opt/tillerman
COPY pyproject.toml constraints.txt README.md LICENSE ./
COPY src ./src
RUN pip install --index-url "https://download.pytorch.org/whl/${TORCH}" "torch==2.13.0" \
    && pip install -c constraints.txt ".[${EXTRAS}]" \
    && useradd --create-home --uid 1000 tillerman

USER 1000
WORKDIR /home/tillerman

# docker run IMAGE demo; docker run -p 8000:8000 -v "$PWD/artefacts:/home/tillerman/artefacts" IMAGE serve MODEL ...
ENTRYPOINT ["tillerman"]
CMD ["--help"]
