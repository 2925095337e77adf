# lockd in a container: one static program, no shell, not root, and nothing that it writes
# but a state file, if asked.
#   docker build -t lockd --build-arg REVISION=$(git rev-parse HEAD) .
#   docker run --read-only -p 9999:9999 lockd
# docs/deploying.md has more.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
# The commit, for lockd version: .git is not copied.
ARG REVISION
RUN CGO_ENABLED=0 go build -trimpath \
    -ldflags="-s -w -X github.com/nylen/lockd/pkg/server.archived=${REVISION:-\$unknown}" -o /lockd ./cmd/lockd
RUN mkdir /state

FROM scratch
ARG REVISION=unknown
LABEL org.opencontainers.image.title="lockd" \
      org.opencontainers.image.description="A lock and limit server for a fleet of machines" \
      org.opencontainers.image.url="https://github.com/nylen/lockd" \
      org.opencontainers.image.source="https://github.com/nylen/lockd" \
      org.opencontainers.image.documentation="https://github.com/nylen/lockd/blob/main/docs/deploying.md" \
      org.opencontainers.image.licenses="MIT" \
      org.opencontainers.image.revision="${REVISION}"
# For lockd as a client of a server whose certificate a public authority has signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /lockd /lockd
# Where a volume for the state file goes: a new one gets this owner.
COPY --from=build --chown=65532:65532 /state /var/lib/lockd
USER 65532:65532
EXPOSE 9999
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["/lockd", "ping"]
ENTRYPOINT ["/lockd"]
CMD ["--tcp", "9999"]
