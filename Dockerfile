# The image of dstream: one static program and an empty directory for its data.
# It has no shell, no package manager and no root user.
#
#   docker build -t dstream .    builds the program too
#   make image                   the same image from a program built on this machine

FROM golang:1.26 AS build
WORKDIR /src
COPY go.mod go.sum ./
RUN go mod download
COPY . .
RUN CGO_ENABLED=0 go build -trimpath -o /image/dstream ./cmd/dstream && mkdir /image/data

FROM scratch
COPY --from=build /image/dstream /dstream
COPY --from=build --chown=65532:65532 /image/data /data
ENV DSTREAM_DIR=/data
USER 65532:65532
VOLUME /data
EXPOSE 4222 6222 8222
ENTRYPOINT ["/dstream"]
CMD ["--help"]
