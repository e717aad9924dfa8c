# Both filters, the console, the command line, and the development issuer and reranker: one image, one entry point.
#
#   docker build -t rankgate .
#   docker run --rm rankgate rankgate.cli version
#
# The base image is named by its exact version; give PYTHON_IMAGE with a digest to pin it to one build.
ARG PYTHON_IMAGE=python:3.11.14-slim-bookworm

FROM ${PYTHON_IMAGE} AS build
WORKDIR /src
COPY . .
RUN sh deploy/build.sh /opt/rankgate

FROM ${PYTHON_IMAGE}
LABEL org.opencontainers.image.title="rankgate" \
      org.opencontainers.image.description="An Envoy sidecar that guards rerankers" \
      org.opencontainers.image.licenses="Apache-2.0"
# The users of the filters and of the console; a named volume that is mounted here starts with this owner.
RUN install -d -m 0750 -o 64001 -g 64000 /var/lib/rankgate/audit && \
    install -d -m 0750 -o 64006 -g 64000 /var/lib/rankgate-console
COPY --from=build /opt/rankgate /opt/rankgate
# GRPC_EXPERIMENTS: measured on grpcio 1.85 only, 15 % less CPU a call; rankgate/clients/embedded.py does the same.
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1 GRPC_EXPERIMENTS=-event_engine_listener
USER 64001:64000
# -P: the working directory is no place for modules.
ENTRYPOINT ["/opt/rankgate/bin/python", "-P", "-m"]
CMD ["rankgate.cli", "--help"]
