# Two targets: `cpu`, and `cuda` (the same, with a GPU asked for). docs/deploy.md says how to use them.
#
# torch comes with its CUDA libraries (the environment has 7 GB) unless PIP_EXTRA_INDEX_URL names an index that has builds of
# torch for the CPU: docker build --target cpu --build-arg PIP_EXTRA_INDEX_URL=...
FROM debian:bookworm-slim AS python
RUN apt-get update \
    && apt-get install --yes --no-install-recommends ca-certificates python3 python3-venv \
    && rm -rf /var/lib/apt/lists/*

FROM python AS build
ARG PIP_EXTRA_INDEX_URL
COPY . /source
RUN --mount=type=cache,target=/root/.cache/pip \
    python3 -m venv /opt/nearshot \
    && /opt/nearshot/bin/pip install --disable-pip-version-check --constraint /source/constraints.txt '/source[service]'

FROM python AS cpu
COPY --from=build /opt/nearshot /opt/nearshot
RUN install --directory --owner=1000 --group=1000 /data /models /store
ENV PATH=/opt/nearshot/bin:$PATH HOME=/tmp HF_HOME=/models TORCH_HOME=/models NEARSHOT_CACHE=/models/nearshot NEARSHOT_STORE=/store PYTHONUNBUFFERED=1
USER 1000:1000
VOLUME ["/models", "/store"]
EXPOSE 8077
HEALTHCHECK --start-period=120s --interval=30s --timeout=5s \
    CMD ["python3", "-c", "import urllib.request; urllib.request.urlopen('http://127.0.0.1:8077/readyz', timeout=4)"]
ENTRYPOINT ["nearshot"]
CMD ["serve", "--host", "0.0.0.0", "--api-keys", "store"]

FROM cpu AS cuda
ENV NVIDIA_VISIBLE_DEVICES=all NVIDIA_DRIVER_CAPABILITIES=compute,utility
