# One image for all: the services, the operator's command, the resolver beside them (unbound), and the proxies (HAProxy).
# The packages are those of requirements.runtime.lock, by hash, as `make` installs them for a clone.

FROM python:3.13-slim-trixie AS build
COPY requirements.runtime.lock /build/
RUN python -m venv /opt/postyard \
 && /opt/postyard/bin/python -m pip --disable-pip-version-check install --no-cache-dir --no-compile --require-hashes \
      -r /build/requirements.runtime.lock

FROM python:3.13-slim-trixie
ARG VERSION=0.1.0
ARG REVISION=unknown
LABEL org.opencontainers.image.title="Postyard" \
      org.opencontainers.image.description="A mail delivery cluster on Kafka, for platforms that send from their own dedicated IPs." \
      org.opencontainers.image.licenses="Apache-2.0" \
      org.opencontainers.image.version="${VERSION}" \
      org.opencontainers.image.revision="${REVISION}"
# dns-root-data: the root's key and addresses, for unbound. Debian's versions, with its security updates at each build.
# hadolint ignore=DL3008
RUN apt-get update \
 && apt-get install --yes --no-install-recommends ca-certificates dns-root-data haproxy unbound \
 && rm -rf /var/lib/apt/lists/* \
 && useradd --uid 10001 --user-group --no-create-home --shell /usr/sbin/nologin postyard
COPY --from=build /opt/postyard /opt/postyard
COPY services /opt/postyard/app/services
COPY shared /opt/postyard/app/shared
ENV PATH=/opt/postyard/bin:$PATH \
    PYTHONPATH=/opt/postyard/app \
    PYTHONUNBUFFERED=1 \
    PYTHONDONTWRITEBYTECODE=1
WORKDIR /opt/postyard/app
# What a start reads is compiled here, Python's own library too, which comes without; a pod may write nothing, and would do it at each start.
RUN python -m compileall -q services shared \
 && for program in ingest scheduler sender cli; do PYTHONDONTWRITEBYTECODE='' python -m "services.$program" --help > /dev/null || exit 1; done
USER 10001:10001
EXPOSE 9464
ENTRYPOINT []
CMD ["python", "-m", "services.cli", "--help"]
