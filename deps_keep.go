//go:build never



package cove

import (
	_ "github.com/docker/go-units"
	_ "github.com/google/nftables"
	_ "github.com/opencontainers/go-digest"
	_ "github.com/opencontainers/image-spec/specs-go/v1"
	_ "github.com/opencontainers/runtime-spec/specs-go"
	_ "github.com/rogpeppe/go-internal/testscript"
	_ "github.com/spf13/cobra"
	_ "github.com/vishvananda/netlink"
	_ "go.etcd.io/bbolt"
	_ "go.podman.io/common/libimage"
	_ "go.podman.io/common/pkg/config"
	_ "go.podman.io/image/v5/copy"
	_ "go.podman.io/storage"
	_ "golang.org/x/sys/unix"
	_ "golang.org/x/term"
)
