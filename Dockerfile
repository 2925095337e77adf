# lockd in a container: one static program, no shell, not root, and nothing that it writes.
#   docker build -t lockd . && docker run --read-only -p 9999:9999 lockd
# docs/deploying.md has more.
FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -ldflags="-s -w" -o /lockd ./cmd/lockd

FROM scratch
# For lockd as a client of a server whose certificate a public authority has signed.
COPY --from=build /etc/ssl/certs/ca-certificates.crt /etc/ssl/certs/
COPY --from=build /lockd /lockd
USER 65532:65532
EXPOSE 9999
STOPSIGNAL SIGTERM
HEALTHCHECK CMD ["/lockd", "ping"]
ENTRYPOINT ["/lockd"]
CMD ["--tcp", "9999"]
